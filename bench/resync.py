"""From the start of a control process on 20,000 VMs to its first placement. Aim: 10 s, with at most 400 MiB resident.

The records stand in etcd as if the cloud had made them: VMs that run on 100 hosts, with names, uses of their image and
remembered requests. 3 members with fsync; no host daemon. One more VM waits; when it is placed, the process has read
everything and decided. Run by `script/bench resync`.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bench.cloud import wait_for
from bench.line import finish, rounded
from bench.processes import PlainCloud, Process
from ucloud.base.clock import timestamp
from ucloud.base.errors import Temporary
from ucloud.model import keys
from ucloud.model.bookkeeping import Idempotency, Unique
from ucloud.model.host import Alive, Host, Inventory
from ucloud.model.image import Pool
from ucloud.model.record import Fact, Record, encode
from ucloud.model.vm import Placement, Status, Vm
from ucloud.scheduler.manifests import manifest_for
from ucloud.store.etcd import EtcdStore

VMS, HOSTS = 20_000, 100
ROUNDS = 3
AIM_S, AIM_MIB = 10.0, 400.0
IMAGE = "image-01kd2g5x8p6q0v3n9r7t4w1y2z"
POOL = Pool(name="local", kind="fake", path="/nowhere", created="2026-11-22T12:00:00.000Z")
VMS_AT_ONCE = 16


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ub-") as name:
        cloud = PlainCloud(Path(name), hosts=0, apis=0)
        try:
            with cloud.store() as store:
                fill(store)
                rounds = [resync(cloud, store, number) for number in range(ROUNDS)]
        finally:
            cloud.down()
    took_s, resident_mib, peak_mib, cpu_s = (list(values) for values in zip(*rounds, strict=True))
    ok = statistics.median(took_s) < AIM_S and max(resident_mib) < AIM_MIB
    detail = {
        "vms": VMS,
        "hosts": HOSTS,
        "aim_mib": AIM_MIB,
        "resident_mib": [rounded(value) for value in resident_mib],
        "peak_mib": [rounded(value) for value in peak_mib],
        "cpu_s": [rounded(value) for value in cpu_s],
        "ours_s": [rounded(value) for value in took_s],
    }
    finish("resync", took_s, "s", ok, aim=AIM_S, detail=detail)


def resync(cloud: PlainCloud, store: EtcdStore, number: int) -> tuple[float, float, float, float]:
    """Seconds, MiB then and at most, CPU seconds."""
    late = vm(VMS + number)
    store.commit({late.key: encode(late)})
    start_s = time.monotonic()
    process = cloud.add("control", 1)
    wait_for(lambda: store.get(Placement.at(late.id)) is not None, "the placement")
    measured = (time.monotonic() - start_s, memory_mib(process, "VmRSS"), memory_mib(process, "VmHWM"), process.cpu_s())
    process.stop()
    return measured


def memory_mib(process: Process, field: str) -> float:
    (line,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def fill(store: EtcdStore) -> None:
    wait_for(lambda: is_there(store), "etcd")
    pool = Fact(POOL.key, POOL, store.commit({POOL.key: encode(POOL)}))
    for number in range(HOSTS):
        store.commit({record.key: encode(record) for record in host(f"host-{number:03}")})
    numbers = iter(range(VMS))
    while batch := list(islice(numbers, VMS_AT_ONCE)):
        revision = store.commit({record.key: encode(record) for number in batch for record in asked(number)})
        store.commit({record.key: encode(record) for number in batch for record in made(number, revision, pool)})


def is_there(store: EtcdStore) -> bool:
    try:
        store.get(POOL.key)
    except Temporary:
        return False
    return True


def host(id: str) -> tuple[Record, ...]:
    inventory = Inventory(host=id, cpus=64, memory_mib=262_144, hypervisor="fake", accel="fake", version="1")
    return Host(id=id, name=id, created=POOL.created), Alive(host=id, boot="1"), inventory


def vm(number: int) -> Vm:
    id = f"vm-{number:026}"
    return Vm(id=id, name=f"web-{number}", image=IMAGE, pool=POOL.name, disk_mib=2048, created=POOL.created)


def asked(number: int) -> Iterator[Record]:
    """What the API writes for a VM."""
    record = vm(number)
    yield record
    yield Unique(path=keys.unique("vm", record.project, record.name), owner=record.id)
    yield Unique(path=keys.use("image", IMAGE, record.id), owner=record.id)
    yield Idempotency(project=record.project, name=f"request-{number}", body="0" * 64, created=timestamp(time.time()))


def made(number: int, revision: int, pool: Fact[Pool]) -> Iterator[Record]:
    """What the scheduler and the host write for it."""
    fact = Fact(vm(number).key, vm(number), revision)
    id = fact.record.id
    placement = Placement(vm=id, host=f"host-{number % HOSTS:03}", epoch=1, since=POOL.created, reason="placed by a benchmark")
    manifest = manifest_for(fact, placement, pool, (), {})
    yield placement
    yield manifest
    yield Status(
        host=placement.host, vm=id, epoch=1, boots=1, phase="running", since=POOL.created, revisions=manifest.revisions
    )


if __name__ == "__main__":
    main()
