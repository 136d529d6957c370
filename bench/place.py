"""How fast the scheduler decides: 1,000 hosts with 10 VMs each, then new ones. Aim: 2,000 placements a second.

Deciding alone is timed, on a real view over the store in memory. Two shapes: one pass over 2,000 VMs that came at once, and
passes of 16 new VMs each, where every pass looks at the 10,000 old ones too (under load a pass is not kept at 16: it takes
in whatever came during the one before, so the first shape bounds the throughput and the second tells the delay). Last, hosts
die one by one: `pass_of_a_dead_host_ms` is the one in which all VMs of one move. Run by `script/bench place`.
"""

import logging
import statistics
import time

import msgspec

from bench.line import finish, rounded
from ucloud.base.clock import SystemClock
from ucloud.loop import Decider
from ucloud.model.decision import Decision
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Fence, Host, Inventory
from ucloud.model.image import Pool
from ucloud.model.record import Fact, Record, encode
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.scheduler.decide import decide
from ucloud.scheduler.manifests import manifest_for
from ucloud.store.memory import MemoryStore
from ucloud.store.view import View

HOSTS, VMS_PER_HOST = 1000, 10
NEW, SUSTAINED_PASSES, SUSTAINED_NEW = 2000, 10, 16
ROUNDS = 5
AIM_PER_S = 2000.0
CREATED = "2026-11-22T12:00:00.000Z"
POOL = Pool(name="shared", path="/var/lib/ucloud/pool/shared", shared=True, fence="same-kernel", created=CREATED)
PREFIXES = ("vm/", "placement/", "manifest/", "host/", "alive/", "fence/", "status/", "pool/", "network/", "port/")


class Bench:
    """A cloud in memory, and the scheduler's own loop on it with a stopwatch around `decide`."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.store = MemoryStore(clock)
        self.view = View(self.store, PREFIXES, clock, lambda: None)
        self.decider = Decider("scheduler", self.store, self.view, self._timed, clock)
        self.decide_s = 0.0
        self.placed = 0
        self._vms = 0
        self._pool = Fact(POOL.key, POOL, self.put(POOL))
        for number in range(HOSTS):
            self.put(*host(f"host-{number:04}"))
        for number in range(HOSTS * VMS_PER_HOST):
            self._placed_vm(f"host-{number % HOSTS:04}")

    def put(self, *records: Record) -> int:
        return self.store.commit({record.key: encode(record) for record in records})

    def add_vms(self, count: int) -> None:
        for _ in range(count):
            self.put(self._vm())

    def one_pass(self) -> tuple[float, int]:
        """Look, decide, commit: seconds in `decide`, and placements."""
        self.decide_s, self.placed = 0.0, 0
        self.decider.step()
        return self.decide_s, self.placed

    def lose_host(self, id: str) -> int:
        """It has begun all its VMs, dies, and is fenced; how many they are."""
        vms = [fact.record.vm for key, fact in self.view.all(Manifest).items() if key.startswith(Manifest.at(id, ""))]
        begun = Status(host=id, vm="", epoch=1, boots=1, phase="running", since=CREATED, pools=(POOL.name,), leased=True)
        self.put(*(msgspec.structs.replace(begun, vm=vm) for vm in vms))
        self.store.commit(deletes=[Alive.at(id)])
        proofs = {POOL.name: "its lease has run out"}
        self.put(Fence(host=id, number=1, boot="1", phase="fenced", since=CREATED, reason="silent", proofs=proofs))
        return len(vms)

    def _vm(self) -> Vm:
        self._vms += 1
        return Vm(
            id=f"vm-{self._vms:06}",
            name=f"web-{self._vms}",
            image="image-1",
            pool=POOL.name,
            disk_mib=2048,
            memory_mib=512 + 256 * (self._vms % 3),
            created=CREATED,
        )

    def _placed_vm(self, host: str) -> None:
        vm = self._vm()
        placement = Placement(vm=vm.id, host=host, epoch=1, since=CREATED, reason="benchmark")
        self.put(vm)
        self.view.refresh()
        fact = self.view.get(Vm, vm.key)
        assert fact
        self.put(placement, manifest_for(fact, placement, self._pool, (), {}))

    def _timed(self, facts: Facts, now_s: float) -> list[Decision]:
        start_s = time.perf_counter()
        decisions = decide(facts, now_s)
        self.decide_s += time.perf_counter() - start_s
        assert all(decision.verb in ("place", "move") for decision in decisions)
        self.placed += len(decisions)
        return decisions


def host(id: str) -> tuple[Record, ...]:
    inventory = Inventory(host=id, cpus=64, memory_mib=262_144, hypervisor="qemu", accel="kvm", version="1")
    return Host(id=id, name=id, created=CREATED), Alive(host=id, boot="1"), inventory


def main() -> None:
    logging.disable()
    bench = Bench()
    bench.one_pass()  # the first listing
    at_once, sustained, idle_s = [], [], []
    for _ in range(ROUNDS):
        bench.add_vms(NEW)
        seconds, placed = bench.one_pass()
        assert placed == NEW, placed
        at_once.append(placed / seconds)
        total_s, total = 0.0, 0
        for _ in range(SUSTAINED_PASSES):
            bench.add_vms(SUSTAINED_NEW)
            seconds, placed = bench.one_pass()
            total_s, total = total_s + seconds, total + placed
        assert total == SUSTAINED_PASSES * SUSTAINED_NEW, total
        sustained.append(total / total_s)
        idle_s.append(bench.one_pass()[0])
    dead_s = []
    for number in range(ROUNDS):
        lost = bench.lose_host(f"host-{number:04}")
        seconds, moved = bench.one_pass()
        assert moved == lost > 0, (moved, lost)
        dead_s.append(seconds)
    detail = {
        "hosts": HOSTS,
        "vms": HOSTS * VMS_PER_HOST,
        "new_at_once": NEW,
        "at_once_per_s": [rounded(value) for value in at_once],
        f"passes_of_{SUSTAINED_NEW}_per_s": [rounded(value) for value in sustained],
        "pass_without_work_ms": [rounded(value * 1000) for value in idle_s],
        "pass_of_a_dead_host_ms": [rounded(value * 1000) for value in dead_s],
    }
    finish("place", at_once, "placements/s", statistics.median(at_once) >= AIM_PER_S, aim=AIM_PER_S, detail=detail)


if __name__ == "__main__":
    main()
