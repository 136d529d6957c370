"""Small worlds to decide on: records with revisions, in a real view over the store in memory.

A test says which records there are, asks for decisions, and may commit them for real. The records made here are as plain as
can be; a test names what matters to it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from ucloud.base.errors import Temporary
from ucloud.ipam import allocate
from ucloud.model import eui64
from ucloud.model.decision import Decision, Requirement
from ucloud.model.host import Alive, Fence, Host, Inventory
from ucloud.model.image import Pool
from ucloud.model.key import Blob, Key
from ucloud.model.network import Network, VmPort
from ucloud.model.record import Record, encode
from ucloud.model.vm import Disk, Manifest, Placement, PoolRef, Status, Vm
from ucloud.store.contract import Batch
from ucloud.store.memory import MemoryStore, MemoryWatch
from ucloud.store.view import View

NOW_S = 1_800_000_000.0
NOW = "2027-01-15T08:00:00.000Z"
EARLIER = "2026-12-24T18:00:00.000Z"
PREFIXES = (
    *("vm/", "placement/", "manifest/", "host/", "alive/", "fence/", "status/", "pool/", "network/", "port/"),
    *("key/", "blob/", "use/blob/"),
    *("lock/", "idempotency/", "cluster/"),
)


class HandClock:
    """Stands still until a test moves it."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.start_s = self.time_s = now_s

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s - self.start_s

    def boot_s(self) -> float:
        return self.monotonic_s()

    def pass_s(self, seconds: float) -> None:
        self.time_s += seconds


class FaultyStore(MemoryStore):
    """Counts commits; loses an answer, or keeps watches silent, when told to."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock)
        self.commits: list[set[str]] = []
        self.lose = ""  # "request": the next commit does not happen, "answer": it does
        self.silent = False

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        lost, self.lose = self.lose, ""
        if lost == "request":
            raise Temporary("no answer")
        revision = super().commit(puts, deletes, requires, lease)
        self.commits.append({*puts, *deletes})
        if lost == "answer":
            raise Temporary("no answer")
        return revision

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> "SilencedWatch":
        return SilencedWatch(self, dict(after), wake)


class SilencedWatch(MemoryWatch):
    def __init__(self, store: FaultyStore, after: dict[str, int], wake: Callable[[], None]) -> None:
        super().__init__(store, after, wake, 0.0)
        self._faulty = store

    def poll(self) -> Sequence[Batch]:
        return () if self._faulty.silent else super().poll()


class World:
    """`view` shows what was written up to the last call of `facts`."""

    def __init__(self, *records: Record) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock)
        self.view = View(self.store, PREFIXES, self.clock, lambda: None)
        self.put(*records)

    def put(self, *records: Record) -> int:
        """Write each in a commit of its own, in this order; the last one's revision."""
        return [self.store.commit({record.key: encode(record)}) for record in records][-1] if records else 0

    def delete(self, *keys: str) -> int:
        return self.store.commit(deletes=keys)

    def facts(self) -> View:
        self.view.refresh()
        return self.view

    def commit(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            puts = {record.key: self.view.encode(record) for record in decision.puts}
            self.store.commit(puts, decision.deletes, decision.requires)


def vm(id: str = "vm-a", **changes: object) -> Vm:
    plain: dict[str, object] = {"name": id[3:], "image": "image-1", "pool": "local", "disk_mib": 2048, "created": EARLIER}
    return Vm(id=id, **{**plain, **changes})  # type: ignore[arg-type]


def host(id: str, has_mib: int = 4096, has_cpus: int = 4, **changes: object) -> tuple[Host, Alive, Inventory]:
    """A host that lives and has this much; `changes` are what the operator wants of it (memory_mib, cpus: as agreed)."""
    wanted = Host(id=id, name=id[5:], created=EARLIER, **changes)  # type: ignore[arg-type]
    has = Inventory(host=id, cpus=has_cpus, memory_mib=has_mib, hypervisor="fake", accel="fake", version="1")
    return wanted, Alive(host=id, boot="boot-1"), has


def fence(host: str = "host-1", number: int = 1, phase: str = "fenced", **changes: object) -> Fence:
    """What the host manager says of a host that it has declared dead."""
    plain: dict[str, object] = {"boot": "boot-1", "since": EARLIER, "reason": "its heartbeat was not renewed"}
    return Fence(host=host, number=number, phase=phase, **{**plain, **changes})  # type: ignore[arg-type]


def pool(name: str = "local", **changes: object) -> Pool:
    plain: dict[str, object] = {"path": "/pool", "created": EARLIER}
    return Pool(name=name, **{**plain, **changes})  # type: ignore[arg-type]


def placement(vm: str = "vm-a", host: str = "", **changes: object) -> Placement:
    plain: dict[str, object] = {"epoch": 1 if host else 0, "since": EARLIER, "reason": "because"}
    return Placement(vm=vm, host=host, **{**plain, **changes})  # type: ignore[arg-type]


def manifest(vm: str = "vm-a", host: str = "host-1", **changes: object) -> Manifest:
    disk = Disk(name="root", pool=PoolRef(name="local", kind="directory", path="/pool"), image="image-1", size_mib=2048)
    plain: dict[str, object] = {"epoch": 1, "boots": 1, "want": "running", "cpus": 1, "memory_mib": 512, "disks": (disk,)}
    return Manifest(host=host, vm=vm, name=vm[3:], **{**plain, **changes})  # type: ignore[arg-type]


def status(vm: str = "vm-a", host: str = "host-1", **changes: object) -> Status:
    plain: dict[str, object] = {"epoch": 1, "boots": 1, "phase": "running", "since": EARLIER, "pools": ("local",)}
    return Status(host=host, vm=vm, **{**plain, **changes})  # type: ignore[arg-type]


def key(id: str = "key-1", **changes: object) -> Key:
    plain: dict[str, object] = {
        "name": id,
        "type": "ssh-ed25519",
        "data": "AAAA",
        "comment": id,
        "bits": 256,
        "created": EARLIER,
    }
    return Key(id=id, fingerprint="SHA256:0", **{**plain, **changes})  # type: ignore[arg-type]


def blob(data: bytes = b"#!/bin/sh\n") -> Blob:
    return Blob(sha256=hashlib.sha256(data).hexdigest(), data=data)


def network(id: str = "network-1", **changes: object) -> Network:
    """Its VNI and prefix follow from the number that its id ends with."""
    number = int(id[8:])
    plain: dict[str, object] = {"name": f"net-{number}", "vni": number, "ipv6": f"fd00:0:0:{number:x}::/64", "mtu": 1430}
    return Network(id=id, **{**plain, "created": EARLIER, **changes})  # type: ignore[arg-type]


def port(vm: str = "vm-a", network_id: str = "network-1", **changes: object) -> VmPort:
    mac = allocate.mac(network_id, vm)
    return VmPort(network=network_id, mac=mac, ipv6=eui64.address(network(network_id).ipv6, mac), **changes)  # type: ignore[arg-type]
