"""What decodes and yet makes no sense."""

import msgspec
import pytest

from tests.unit.world import EARLIER, host, manifest, placement, pool, status, vm
from ucloud.base.ids import new_id
from ucloud.model.bookkeeping import Idempotency
from ucloud.model.event import Event
from ucloud.model.image import Image
from ucloud.model.record import Record
from ucloud.model.sense import check
from ucloud.model.vm import Disk, PoolRef

IMAGE = Image(id="image-1", name="tiny", pool="local", bytes=1, sha256="0", created=EARLIER)
REQUEST = Idempotency(project="default", name="A.b_c:d", body="0", created=EARLIER)
HOST = host("host-1")[0]
EVENT = Event(id="e1", writer="host-1", time=EARLIER, verb="running", about="vm/a", name="Anything", reason="")


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
        *host("host-1"),
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
    ],
)
def test_what_only_a_stranger_writes_does_not(record: Record) -> None:
    with pytest.raises(msgspec.ValidationError):
        check(record.key, record)


def test_a_record_stands_under_its_own_key_only() -> None:
    with pytest.raises(msgspec.ValidationError, match="manifest/host-1/vm-a"):
        check("manifest/host-1/vm-b", manifest())
