"""Debian 12 with cloud-init as Debian ships it: it learns who it is from its cidata disk, and lets its owner in."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import TREE, wait_for
from tests.e2e.person import Person
from ucloud.client import Client

CACHE = Path(os.environ.get("UCLOUD_CACHE", "/var/cache/ucloud"))
SCRIPT = b"#!/bin/sh\nprintf '\\000\\377%s' \"$(hostname)\" >/root/told\n"
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def debian_file() -> Path:
    """Made once for all runs, until the script changes. Remove it to have newer packages."""
    script = TREE / "script" / "debian-image"
    made = CACHE / f"debian-{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}.qcow2"
    if not made.exists():
        for old in CACHE.glob("debian-*.qcow2"):
            old.unlink()
        built = made.with_suffix(".new")
        subprocess.run([script, built], check=True, stdin=subprocess.DEVNULL)
        built.rename(made)
    return made


@pytest.fixture(scope="module")
def owner(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("home"), cloud.url)


@pytest.fixture(scope="module")
def mine(owner: Person, api: Client, debian_file: Path) -> Iterator[Path]:
    """The private key that logs in to `web`, a guest that has booted."""
    key = owner.new_key("mine")
    script = owner.home / "script"
    script.write_bytes(SCRIPT)
    owner.does("image", "upload", "debian", str(debian_file), "--user", "debian")
    owner.does(
        "vm",
        "create",
        "web",
        "--image",
        "debian",
        "--cpus",
        "2",
        "--disk",
        "5G",
        *("--key", "mine", "--user-data", str(script)),
    )
    yield key
    owner.does("vm", "delete", "web")
    owner.does("image", "delete", "debian")
    for known in list(api.keys()):
        api.delete_key(known["id"])


@pytest.fixture(scope="module")
def inside(owner: Person, mine: Path) -> "Inside":
    guest = Inside(owner, mine)
    guest.does("cloud-init status --wait")
    return guest


class Inside:
    """A shell in the guest."""

    def __init__(self, owner: Person, key: Path) -> None:
        self._owner, self._key = owner, key

    def does(self, command: str) -> str:
        done = self._owner.ssh("web", self._key, command)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout


def test_the_owner_logs_in_and_the_guest_knows_its_name(inside: Inside) -> None:
    assert inside.does("id -un; hostname") == "debian\nweb\n"


def test_cloud_init_has_nothing_to_complain_of(inside: Inside) -> None:
    assert inside.does("cat /run/cloud-init/result.json | tr -d ' \n'").startswith(
        '{"v1":{"datasource":"DataSourceNoCloud[seed=/dev/vdb]'
    )
    assert '"errors":[]' in inside.does("cat /run/cloud-init/result.json | tr -d ' \n'")


def test_user_data_has_run_as_it_was_given(inside: Inside) -> None:
    assert inside.does("sudo od -An -tx1 /root/told") == " 00 ff 77 65 62\n"
    assert inside.does("sudo cat /var/lib/cloud/instance/user-data.txt") == SCRIPT.decode()


def test_the_disk_has_grown(inside: Inside) -> None:
    assert int(inside.does("df --output=size -BM / | tail -1 | tr -d ' M'")) > 4500


def test_the_network_is_as_the_cloud_says(inside: Inside, api: Client) -> None:
    address = api.vm("web")["ports"][0]["ipv6"]
    assert f" {address}/" in inside.does("ip -6 -o address show scope global")
    assert inside.does("cat /sys/class/net/e*/mtu") == "1430\n"


def test_a_key_that_is_added_later_is_told(inside: Inside, owner: Person) -> None:
    assert inside.does("wget -qO- http://metadata/hostname") == "web"
    owner.new_key("other")
    public = (owner.home / "other.pub").read_text().split()[1]
    owner.does("vm", "set", "web", "--key", "other")
    wait_for(lambda: public in inside.does("wget -qO- http://metadata/ssh-keys"), "the guest to be told of the other key")
