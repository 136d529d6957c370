"""What a cloud on one machine is made of."""

import itertools
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ucloud.base.config import load, to_toml
from ucloud.base.errors import Invalid
from ucloud.daemon import drivers
from ucloud.daemon.cloud import Cloud, Settings, cloud_at, home, load_cloud, save_cloud


def cloud(name: str = "uc", state: str = "/tmp/c", hosts: int = 1, etcd: int = 1) -> Cloud:
    return cloud_at(Settings(name=name, hosts=hosts, etcd=etcd, host_ids={"h1": "host-1"}), Path(state))


def test_clouds_of_different_names_share_no_address() -> None:
    assert not cloud("uc").prefix.overlaps(cloud("ud").prefix)
    assert str(cloud().prefix).startswith("fd")


def test_the_parts_of_a_cloud_share_its_prefix_and_no_address() -> None:
    parts = [cloud().subnet, cloud().link_subnet, cloud().public]
    assert [part.prefixlen for part in parts] == [64, 64, 56]
    assert all(part.subnet_of(cloud().prefix) for part in parts)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(parts, 2))
    assert len({cloud().address("h1"), cloud().address("h2"), cloud().router_address}) == 3


def test_the_daemons_are_told_of_the_network(tmp_path: Path) -> None:
    (tmp_path / "ucloud.toml").write_text(to_toml(cloud().config("h1")))
    network = load(str(tmp_path / "ucloud.toml")).network
    assert (network.public, network.underlay) == ((str(cloud().public),), (str(cloud().subnet),))
    assert (network.routers, network.slaac, network.driver) == ((str(cloud().router_address),), True, "linux")


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


def test_settings_are_read_back() -> None:
    with TemporaryDirectory(prefix="uct-") as state:  # pytest's own are too deep for sockets
        saved = cloud_at(Settings(name="x", port=1, accel="tcg", host_ids={"h1": "host-1"}), Path(state))
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
    names = ["router", "etcd-1", "api-1", "control-1", "metadata-1", "deadman-1", "lease-1", "host-1"]
    assert [daemon.name for daemon in cloud().daemons()] == names


def test_several_hosts_share_what_one_machine_has() -> None:
    large = cloud(hosts=4, etcd=3)
    names = [daemon.name for daemon in large.daemons()]
    assert names == [
        "router",
        *(f"{kind}-{i}" for kind in ("etcd", "api", "control") for i in (1, 2, 3)),
        *(f"{kind}-{i}" for kind in ("metadata", "deadman", "lease", "host") for i in range(1, 5)),
    ]
    configs = [large.config(host) for host in large.hosts]
    assert [config.etcd.endpoints[0] for config in configs[:3]] == list(large.etcd_endpoints)
    assert all(set(config.etcd.endpoints) == set(large.etcd_endpoints) for config in configs)
    assert len({config.api.socket for config in configs} | {config.host.run_dir for config in configs}) == 8
    [memory_mib] = {config.host.memory_mib for config in configs}
    assert 0 < 4 * memory_mib < drivers.machine.memory_mib()


def test_a_leader_lives_as_long_as_etcd_grants() -> None:
    """etcd lengthens a shorter lease without a word: then a dead leader would be missed later than configured."""
    shortest_s = math.ceil(1.5 * cloud().election_ms / 1000)
    assert cloud().config("h1").control.ttl_s >= shortest_s
    assert cloud().config("h1").host.ttl_s >= shortest_s
