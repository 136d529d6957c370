"""What `ucloud host join` makes of this machine's own settings, and what it refuses before a token is used."""

from pathlib import Path

import msgspec
import pytest

from ucloud.base import config
from ucloud.base.errors import Conflict, Invalid
from ucloud.daemon.join import address_towards, attempt, own_settings, refuse_foreign, settled, write
from ucloud.daemon.process import take_lock

NETWORK = config.Network(public=("fd00:1::/48",), underlay=("fd00::/64",), slaac=True)
JOINED = {
    "id": "host-01m83gv14bgg4gf68ert230pyk",
    "name": "h4",
    "settings": {
        "etcd_endpoints": ["http://[fd00::1]:2379", "http://[fd00::2]:2379"],
        "etcd_election_ms": 1000,
        "ttl_s": 6.0,
        "network": msgspec.to_builtins(NETWORK),
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a machine that knows of itself only where it keeps things, and how its guests run."""
    settings = config.Config(host=config.Host(state_dir=str(tmp_path / "state"), accel="tcg"))
    (tmp_path / "ucloud.toml").write_text(config.to_toml(settings))
    return tmp_path / "ucloud.toml"


def joined(file: Path) -> config.Config:
    settings = settled(own_settings(file, force=True), JOINED, "fd00::4")
    write(file, settings)
    return settings


def test_what_the_machine_says_of_itself_is_kept_the_rest_is_the_clouds(file: Path) -> None:
    own = own_settings(file, force=False)
    read = (joined(file), config.load(str(file), {}))
    assert read[0] == read[1]
    etcd, host, network = read[1].etcd, read[1].host, read[1].network
    assert (etcd.endpoints, etcd.election_ms) == (("http://[fd00::1]:2379", "http://[fd00::2]:2379"), 1000)
    assert (host.id, host.name, host.address, host.ttl_s) == (JOINED["id"], "h4", "fd00::4", 6.0)
    assert (host.state_dir, host.accel) == (own.host.state_dir, "tcg")
    assert network == NETWORK


def test_a_machine_that_is_a_host_is_none_again_unless_told_or_unless_it_broke_off(file: Path) -> None:
    joined(file)
    with pytest.raises(Conflict, match=r"the host h4 \(host-.*--force makes it another"):
        own_settings(file, force=False)
    assert own_settings(file, force=True).host.name == "h4"
    attempt(own_settings(file, force=True))
    assert own_settings(file, force=False).host.name == "h4"


@pytest.mark.parametrize("kind", ["node", "host", "lease"])
def test_daemons_that_run_are_to_be_stopped_first(file: Path, kind: str) -> None:
    state_dir = Path(own_settings(file, force=False).host.state_dir)
    with take_lock(state_dir, kind), pytest.raises(Conflict, match="this machine runs a host; stop that first: "):
        own_settings(file, force=True)


def test_an_attempt_has_one_number_and_each_machine_its_own(file: Path, tmp_path: Path) -> None:
    own = own_settings(file, force=False)
    first = attempt(own)
    assert first == attempt(own)
    other = msgspec.structs.replace(own, host=config.Host(state_dir=str(tmp_path)))
    assert first != attempt(other)


def test_addresses() -> None:
    assert address_towards("http://[::1]:8642") == "::1"
    refuse_foreign("::1")
    for address in ("2001:db8::1", "h4", "127.0.0.1"):
        with pytest.raises(Invalid, match="not an IPv6 address of this machine"):
            refuse_foreign(address)
    with pytest.raises(Invalid, match="give --address"):
        address_towards("http://10.0.0.1:8642")
