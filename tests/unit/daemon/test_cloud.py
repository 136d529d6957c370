"""What a cloud on one machine is made of."""

from pathlib import Path

import pytest

from ucloud.base.config import load, to_toml
from ucloud.base.errors import Invalid
from ucloud.daemon.cloud import Cloud, Settings, cloud_at, home, load_cloud, save_cloud


def cloud(name: str = "uc", state: str = "/tmp/c") -> Cloud:
    return cloud_at(Settings(name=name, host_ids={"h1": "host-1"}), Path(state))


def test_clouds_of_different_names_share_no_address() -> None:
    assert cloud("uc").subnet != cloud("ud").subnet
    assert cloud().subnet.prefixlen == 64
    assert str(cloud().address("h1")).startswith("fd")
    assert cloud().address("h1") != cloud().address("h2") != cloud().machine_address


def test_state_and_run_directories() -> None:
    usual = cloud_at(Settings(), home("uc"))
    assert (usual.state_dir, usual.run_dir) == (Path("/var/lib/ucloud"), Path("/run/ucloud"))
    assert usual.socket == Path("/run/ucloud/api.sock")
    other = cloud_at(Settings(name="x"), home("x"))
    assert (other.state_dir, other.run_dir) == (Path("/var/lib/ucloud-x"), Path("/run/ucloud-x"))
    assert cloud().run_dir == Path("/tmp/c/run")


@pytest.mark.parametrize("name", ["", "../x", "UC", "a_b", "x" * 10, "1a", "é", "a/b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        home(name)


def test_a_path_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(Invalid, match="too long") as refusal:
        cloud(state="/tmp/" + "x" * 80)
    room = int(refusal.value.message.split()[-2])
    cloud(state="/" + "x" * (room - 1))
    with pytest.raises(Invalid):
        cloud(state="/" + "x" * room)


def test_settings_are_read_back(tmp_path: Path) -> None:
    saved = cloud_at(Settings(name="x", port=1, accel="tcg", host_ids={"h1": "host-1"}), tmp_path)
    save_cloud(saved)
    assert load_cloud(saved.file).settings == saved.settings
    saved.file.write_text("{")
    with pytest.raises(Invalid, match=r"cloud\.json"):
        load_cloud(saved.file)


def test_its_daemons_accept_their_configuration(tmp_path: Path) -> None:
    file = tmp_path / "h1.toml"
    file.write_text(to_toml(cloud().config("h1")))
    config = load(str(file), {})
    assert config == cloud().config("h1")
    assert config.host.id == "host-1"
    assert config.etcd.endpoints == cloud().etcd_endpoints
    assert [daemon.name for daemon in cloud().daemons()] == ["etcd-1", "api-1", "control-1", "host-1"]
