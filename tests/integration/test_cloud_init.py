"""cloud-init's own classes, as Debian ships them, read the metadata service: through a network of its own, as a guest would."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.metadata_host import Host
from tests.namespaces import Namespace, ip
from tests.unit.metadata.told import told
from ucloud.driver.overlay.names import METADATA4, METADATA6, bridge
from ucloud.metadata import nocloud

CACHE = Path(os.environ.get("UCLOUD_CACHE", "/var/cache/ucloud"))
PYTHON = "/usr/bin/python3"  # the one that Debian's packages are made for
PACKAGES = """cloud-init python3-attr python3-blinker python3-certifi python3-chardet python3-charset-normalizer
python3-configobj python3-idna python3-jinja2 python3-json-pointer python3-jsonpatch python3-jsonschema python3-jwt
python3-markupsafe python3-netifaces python3-oauthlib python3-pkg-resources python3-pyrsistent python3-requests
python3-serial python3-six python3-urllib3 python3-yaml"""
OWN_SYS = 'mount -t sysfs sys /sys && exec "$0" "$@"'  # where cloud-init looks for the guest's interfaces
READER = Path(__file__).with_name("datasource.py")
SCRIPT = b"#!/bin/sh\n\x00\xff" + bytes(range(256)) * 200
WEB = told(2, user_data=SCRIPT)
NOVA = {"system-product-name": "OpenStack Nova"}
AMAZON = {"system-uuid": "ec2a1b2c-0000-4000-8000-000000000002", "system-serial-number": "ec2a1b2c-0000-4000-8000-000000000002"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def cloud_init() -> Path:
    """Where its modules are. Unpacked, not installed: it would set up this machine at the next boot."""
    there = CACHE / "cloud-init"
    if not there.exists():
        half_made = there.with_suffix(".new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(parents=True)
        run("apt-get", "update", "-qq")
        run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES.split(), cwd=half_made)
        for package in half_made.glob("*.deb"):
            run("dpkg-deb", "-x", package, half_made)
            package.unlink()
        half_made.rename(there)
    return there / "usr/lib/python3/dist-packages"


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, timeout=240)


@pytest.fixture(scope="module")
def guest() -> Iterator[Namespace]:
    """The network of WEB, on a host with the well-known addresses."""
    host, made, own = Host([WEB]), Namespace(), bridge(WEB.vni)
    host.start()
    with host.namespace:
        ip(
            *(f"address del {address}/{prefix(address)} dev {own}" for address in WEB.sources),
            *(f"address add {METADATA4}/32 dev {own}", f"address add {METADATA6}/128 dev {own} nodad"),
            *(f"link add port0 master {own} type veth peer name eth0 netns {made.path}", "link set port0 up"),
        )
    with made:
        ip(
            f"link set eth0 address {WEB.ports[0].mac} addrgenmode none",
            "link set eth0 up",
            *(f"address add {address}/{prefix(address)} dev eth0 nodad" for address in WEB.sources if ":" in address),
            *(f"address add {address}/{prefix(address)} dev eth0" for address in WEB.sources if ":" not in address),
            *(f"route add {METADATA4} dev eth0", f"route add {METADATA6} dev eth0"),
        )
    yield made
    host.close()
    made.close()


def prefix(address: str) -> int:
    return 64 if ":" in address else 16


class Reader:
    def __init__(self, guest: Namespace, cloud_init: Path, directory: Path) -> None:
        self._guest, self._modules, self.directory = guest, cloud_init, directory

    def reads(self, name: str, settings: Mapping[str, Any], firmware: Mapping[str, str]) -> dict[str, Any]:
        both = (json.dumps(settings), json.dumps(firmware))
        words = ("unshare", "--mount", "sh", "-c", OWN_SYS, PYTHON, READER, name, self.directory, *both)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self._modules)}
        with self._guest:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def reader(guest: Namespace, cloud_init: Path, tmp_path: Path) -> Reader:
    return Reader(guest, cloud_init, tmp_path)


@pytest.mark.parametrize(
    ("name", "settings", "firmware"),
    [
        ("NoCloudNet", {"fs_label": None, "seedfrom": "http://[fd00:1::1]/"}, {}),
        ("NoCloudNet", {"fs_label": None, "seedfrom": f"http://{METADATA4}/"}, {}),
        ("OpenStack", {}, NOVA),
        ("OpenStack", {"metadata_urls": [f"http://[{METADATA6}]"]}, NOVA),
        ("Ec2", {}, {}),
        ("Ec2", {"metadata_urls": [f"http://[{METADATA6}]"]}, AMAZON),
    ],
    ids=["NoCloud", "NoCloud IPv4", "OpenStack", "OpenStack IPv6", "EC2", "EC2 token IPv6"],
)
def test_a_guest_learns_who_it_is(reader: Reader, name: str, settings: Mapping[str, Any], firmware: Mapping[str, str]) -> None:
    found = reader.reads(name, settings, firmware)
    assert found["id"] == WEB.vm
    assert found["hostname"] == WEB.name
    assert found["keys"] == list(WEB.keys)
    assert base64.b64decode(found["user_data"]) == SCRIPT
    if name in ("OpenStack", "Ec2"):  # NoCloud takes it from the disk alone
        assert networks(found["network"]) == [(WEB.ports[0].mac, "eth0")]


def networks(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """MAC and name of each interface that a network configuration of cloud-init is for."""
    if config["version"] == 1:
        return [(device["mac_address"], device["name"]) for device in config["config"] if device["type"] == "physical"]
    return [(device["match"]["macaddress"], name) for name, device in config["ethernets"].items()]


def test_the_disk_tells_the_same_and_the_network(reader: Reader) -> None:
    seed = reader.directory / "seed" / "nocloud"
    seed.mkdir(parents=True)
    known = nocloud.meta_data(WEB.vm, WEB.name, WEB.keys, WEB.custom)
    (seed / "meta-data").write_bytes(nocloud.as_yaml(known))
    (seed / "user-data").write_bytes(SCRIPT)
    (seed / "network-config").write_bytes(nocloud.as_yaml(nocloud.network_config(WEB.ports)))
    found = reader.reads("NoCloud", {"fs_label": None}, {})
    assert (found["id"], found["hostname"], found["keys"]) == (WEB.vm, WEB.name, list(WEB.keys))
    assert base64.b64decode(found["user_data"]) == SCRIPT
    assert found["network"] == nocloud.network_config(WEB.ports)
