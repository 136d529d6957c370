"""What decodes and yet makes no sense."""

import msgspec
import pytest

from tests.unit.world import EARLIER, blob, host, key, manifest, placement, pool, status, vm
from ucloud.base.ids import new_id
from ucloud.model.bookkeeping import Idempotency
from ucloud.model.event import Event
from ucloud.model.image import Image
from ucloud.model.key import HostBlob, Project
from ucloud.model.network import ManifestPort, Network, NetworkRef, Port, VmPort
from ucloud.model.record import Record
from ucloud.model.sense import check
from ucloud.model.vm import Disk, PoolRef

IMAGE = Image(id="image-1", name="tiny", pool="local", bytes=1, sha256="0", created=EARLIER)
REQUEST = Idempotency(project="default", name="A.b_c:d", body="0", created=EARLIER)
HOST = host("host-1")[0]
EVENT = Event(id="e1", writer="host-1", time=EARLIER, verb="running", about="vm/a", name="Anything", reason="")
NETWORK = Network(id="network-a", name="a", vni=1, ipv6="fd00::/64", ipv4="10.0.0.0/29", mtu=1430, created=EARLIER)
REF = NetworkRef(id="network-a", name="a", vni=1, ipv6="fd00::/64", mtu=1430)
COPY = HostBlob(host="host-1", sha256=blob().sha256, data=blob().data)
PORT = Port(network="network-a", vm="vm-a", name="a", mac="02:00:00:00:00:01", ipv6="fd00::1", ipv4="10.0.0.2", host="host-1")


@pytest.mark.parametrize(
    "record",
    [
        vm(new_id("vm", 1.8e9), host="rack=r1"),
        placement(),
        placement(host=""),
        manifest(),
        status(),
        pool(),
        IMAGE,
        REQUEST,
        EVENT,
        NETWORK,
        PORT,
        vm(ports=(VmPort(network="network-a", mac=PORT.mac, ipv6=PORT.ipv6),)),
        manifest(ports=(ManifestPort(network=REF, mac=PORT.mac, ipv6=PORT.ipv6),)),
        *host("host-1"),
        key(),
        key(comment=""),
        Project(name="default"),
        Project(name="default", default_key="key-1"),
        blob(b""),
        COPY,
        vm(keys=("key-1",), user_data=blob().sha256, metadata={"a.b_c-1": "any\ntext"}),
        manifest(keys=("ssh-ed25519 AAAA me",), user_data=blob().sha256, metadata={"a": ""}),
    ],
)
def test_what_ucloud_writes_makes_sense(record: Record) -> None:
    check(record.key, record)


def disk(path: str) -> tuple[Disk]:
    return (Disk(name="root", pool=PoolRef(name="local", kind="directory", path=path), image="image-1", size_mib=1),)


@pytest.mark.parametrize(
    "record",
    [
        vm("../../x"),
        vm(""),
        vm("vm-a\n"),
        vm("Vm-a"),
        vm("x" * 64),
        vm(name="a,b"),
        vm(project="a/b"),
        vm(memory_mib=-1),
        placement(host="host-1/vm"),
        manifest(memory_mib=-(2**40)),
        manifest(cpus=-1),
        manifest(disks=disk("relative")),
        manifest(disks=disk("")),
        manifest("", "host-1"),
        status(boots=-1),
        msgspec.structs.replace(pool(), path="pool"),
        msgspec.structs.replace(HOST, name="h 1"),
        msgspec.structs.replace(IMAGE, created="garbage"),
        msgspec.structs.replace(IMAGE, created=""),
        msgspec.structs.replace(REQUEST, created="2026-02-31T00:00:00Z"),
        status(since="yesterday"),
        status(since="2026-12-24T18:00:00"),
        status(since="9999-12-31T23:59:59-23:59"),
        msgspec.structs.replace(EVENT, time=""),
        msgspec.structs.replace(PORT, mac="02:00:00:00:00:01\n"),
        msgspec.structs.replace(PORT, ipv6='fd00::1%x" } ; flush ruleset'),
        msgspec.structs.replace(PORT, ipv6="fd00:0::1"),
        msgspec.structs.replace(PORT, ipv4="10.0.0.1/8"),
        msgspec.structs.replace(PORT, name="a b"),
        msgspec.structs.replace(NETWORK, ipv6="fd00::/48"),
        msgspec.structs.replace(NETWORK, ipv4="10.0.0.1/32"),
        msgspec.structs.replace(NETWORK, vni=0),
        msgspec.structs.replace(NETWORK, vni=1 << 24),
        msgspec.structs.replace(NETWORK, mtu=100),
        msgspec.structs.replace(NETWORK, name="../x"),
        vm(ports=(VmPort(network="network-a/../b", mac=PORT.mac, ipv6=PORT.ipv6),)),
        manifest(ports=(ManifestPort(network=msgspec.structs.replace(REF, vni=-1), mac=PORT.mac, ipv6=PORT.ipv6),)),
        manifest(ports=(ManifestPort(network=REF, mac="00:00:5e:00:02:01", ipv6=PORT.ipv6),)),
        key(comment="a\nssh-ed25519 BBBB"),
        key(type="", data="", comment=""),
        key(name="a/b"),
        Project(name="default", default_key="../x"),
        Project(name="a/b"),
        msgspec.structs.replace(blob(), data=b"other"),
        msgspec.structs.replace(COPY, data=b"other"),
        msgspec.structs.replace(COPY, host="host-1/vm"),
        *(vm(keys=keys) for keys in (("",), ("a/b",))),
        *(vm(user_data=text) for text in ("x", "../" + "0" * 61, "0" * 63, "A" * 64)),
        *(vm(metadata={name: ""}) for name in ("", "../x", "a/b", ".a", "A")),
        *(manifest(keys=(line,)) for line in ("", "a\nb", "a\rb", "a\u2028b")),
        manifest(user_data="x"),
        manifest(metadata={"a/b": ""}),
    ],
)
def test_what_only_a_stranger_writes_does_not(record: Record) -> None:
    with pytest.raises(msgspec.ValidationError):
        check(record.key, record)


def test_a_record_stands_under_its_own_key_only() -> None:
    with pytest.raises(msgspec.ValidationError, match="manifest/host-1/vm-a"):
        check("manifest/host-1/vm-b", manifest())
