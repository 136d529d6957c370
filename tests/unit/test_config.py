"""Settings: defaults, what goes before what, and refusals that name the line at fault."""

from pathlib import Path

import pytest

from ucloud.base.config import Config, Etcd, Host, load, to_toml
from ucloud.base.errors import Invalid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ucloud.toml"


def test_every_setting_has_a_default(file: Path) -> None:
    file.write_text("")
    assert load(str(file), {}) == Config()


def test_environment_goes_before_the_file(file: Path) -> None:
    file.write_text("[host]\nttl_s = 5\ncpus = 2\n")
    environ = {"UCLOUD_HOST_CPUS": "4", "UCLOUD_ETCD_ENDPOINTS": "http://[::1]:1, http://[::1]:2", "UCLOUD_API": "the client's"}
    config = load(str(file), environ)
    assert config.host == Host(ttl_s=5.0, cpus=4)
    assert config.etcd.endpoints == ("http://[::1]:1", "http://[::1]:2")


def test_what_is_written_is_read_back(file: Path) -> None:
    config = Config(etcd=Etcd(("http://[fd00::1]:2379",)), host=Host(name="h1", cpus=3, ttl_s=2.5))
    file.write_text(to_toml(config))
    assert load(str(file), {}) == config


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ('[etcd]\n\n[log]\n# level\nlevel = "loud"\n', 5, "[log] level"),
        ("[host]\nttls = 3\n", 2, "[host] ttls: no such setting"),
        ("[log]\n[hosts]\nttl_s = 3\n", 2, "[hosts]: no such section"),
        ("host = 3\n", 1, "host is a section"),
        ('log.level = "info"\nhost.ttl_s = "6"\n', 2, "[host] ttl_s"),
        ("[host]\nttl_s = 6\ncpus = -1\n", 3, "[host] cpus"),
        ("[control]\nttl_s = 5\n[host]\nttl_s = 1e9\n", 4, "[host] ttl_s"),
        ('[host]\naddress = "192.0.2.1"\n', 2, "[host] address"),
        ('[host]\nstate_dir = "here"\n', 2, "[host] state_dir"),
        ('[etcd]\nendpoints = ["[::1]:2379"]\n', 2, "[etcd] endpoints"),
        (f'[api]\nsocket = "/{"x" * 200}"\n', 2, "[api] socket"),
        ('[network]\npublic = ["2001:db8::/65"]\n', 2, "[network] public"),
        ('[network]\npublic = ["2001:db8::1/48"]\n', 2, "[network] public"),
        ('[network]\npublic = ["192.0.2.0/24"]\n', 2, "[network] public"),
        ('[network]\nunderlay = ["fd00::1/64"]\n', 2, "[network] underlay"),
        ('[network]\nvnis = "0-7"\n', 2, "[network] vnis"),
        ('[network]\nvnis = "9-8"\n', 2, "[network] vnis"),
        ('[network]\nvnis = "1-16777216"\n', 2, "[network] vnis"),
        ('[network]\ngroup = "fd00::"\n', 2, "[network] group"),
        ('[network]\ngroup = "ff05::1"\n', 2, "[network] group"),
        ("[network]\nunderlay_mtu = 1349\n", 2, "[network] underlay_mtu"),
        ('[network]\ndomain = "a..b"\n', 2, "[network] domain"),
        ('[network]\nresolvers = ["192.0.2.1"]\n', 2, "[network] resolvers"),
        ('[network]\nrouters = ["router"]\n', 2, "[network] routers"),
        ("[network]\nhost_as = 0\n", 2, "[network] host_as"),
    ],
)
def test_senseless_settings_are_refused_with_their_line(file: Path, text: str, line: int, fault: str) -> None:
    file.write_text(text)
    with pytest.raises(Invalid) as refusal:
        load(str(file), {})
    assert refusal.value.message.startswith(f"{file}:{line}: {fault}")


def test_broken_toml_and_missing_files_are_refused(file: Path) -> None:
    with pytest.raises(Invalid, match="no such file"):
        load(str(file), {})
    file.write_text("[host\n")
    with pytest.raises(Invalid, match="line 1"):
        load(str(file), {})


@pytest.mark.parametrize(("variable", "text"), [("UCLOUD_HOST_CPUS", "many"), ("UCLOUD_HOST_TTL", "6")])
def test_senseless_variables_are_refused_by_name(file: Path, variable: str, text: str) -> None:
    file.write_text("")
    with pytest.raises(Invalid, match=variable):
        load(str(file), {variable: text})
