"""What a host does without its lease, and under a fence: it was declared dead, and what it ran may run elsewhere."""

import threading
from collections.abc import Callable

import msgspec
import pytest

from tests.unit.host.sights import act, guest, reconciled, said, step, world
from tests.unit.machine import VM, Machine
from tests.unit.world import NOW_S, fence, manifest, status
from ucloud.base.errors import NotYet, Temporary
from ucloud.driver.hypervisor.fake import Trace
from ucloud.host.decide import decide
from ucloud.host.executor import Threads
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.guest import Guest
from ucloud.model.host import Fence, Reconciled
from ucloud.model.record import Fact
from ucloud.model.vm import Disk, Manifest, PoolRef, Status

# Leases.

SHARED = PoolRef(name="shared", kind="directory", path="/shared", shared=True, fence="same-kernel")


def disk(pool: PoolRef, name: str = "root") -> Disk:
    return Disk(name=name, pool=pool, image="image-1", size_mib=2048)


def test_the_status_says_what_the_host_has_agreed_to() -> None:
    local = PoolRef(name="local", kind="directory", path="/pool")
    told = manifest(ha="never", disks=(disk(SHARED), disk(local, "more"), disk(local, "most")))
    started = said(told, status(phase="starting"), guest(leased=True))
    assert (started.ha, started.pools, started.leased) == ("never", ("local", "shared"), True)
    assert said(told, None).leased, "as its guest will be"
    assert not said(manifest(), None).leased
    assert said(manifest(ha="never"), status(leased=True), guest(leased=True)).leased, "what really is"


def test_a_running_guest_is_guarded_when_its_pool_is_shared_and_only_then_said_to_be() -> None:
    told = manifest(disks=(disk(SHARED),))
    guard = ("guard", "one of its disks is in a pool that hosts share")
    assert act(told, status(), guest()) == guard
    assert act(msgspec.structs.replace(told, want="stopped"), status(), guest()) == guard, "it may take its time to stop"
    assert said(told, status(), guest(leased=True)) == status(pools=("shared",), leased=True)
    assert act(manifest(want="absent", disks=told.disks), status(), guest()) == ("kill", "deleted")


def test_without_a_lease_the_ports_of_a_vm_without_a_guest_go() -> None:
    wired = {"vm-a": frozenset({"02:00:00:00:00:01"})}
    assert act(manifest(), status(), None, wired=wired, may_start=False) == ("unwire", "this host has lost its lease")
    assert step(manifest(), status(), guest(), may_start=False) is None, "its guest needs no lease"


# Fences.


def under(fence: Fence, *args: object, **more: object) -> dict[str, tuple[str, str]]:
    """Each step by what it is for: verb, reason."""
    steps = decide(world(*args, fence=Fact(fence.key, fence, 17), boot="boot-2", **more), NOW_S)  # type: ignore[arg-type]
    return {vm: (step.verb, step.reason) for vm, step in steps.items()}


DEAD = "this host was declared dead (fence 3)"
CLEAN = {"host-1": ("clean", DEAD)}


@pytest.mark.parametrize("phase", ["fencing", "fenced"])
@pytest.mark.parametrize("told", [None, manifest(), manifest(epoch=2), manifest(want="stopped"), manifest(want="absent")])
@pytest.mark.parametrize("before", [None, status(), status(phase="starting"), status(phase="off")])
@pytest.mark.parametrize("leased", [False, True])
def test_under_a_fence_every_guest_is_killed_and_nothing_else_begins(
    phase: str, told: Manifest | None, before: Status | None, leased: bool
) -> None:
    declared = fence("host-1", 3, phase)
    assert under(declared, told, before, guest(leased=leased)) == {"vm-a": ("kill", DEAD)}
    assert under(declared, told, before, guest("powered-off", leased=leased)) == {"vm-a": ("kill", DEAD)}
    assert under(declared, told, before) == CLEAN
    assert under(declared, told, before, is_clean=True, reconciled=reconciled()) == {}


def test_that_nothing_runs_is_said_when_nothing_is_left_and_rests_on_the_fence() -> None:
    declared = fence("host-1", 3, "fencing")
    found = decide(world(manifest(), status(), fence=Fact(declared.key, declared, 17), boot="boot-2", is_clean=True), NOW_S)
    (said,) = found.values()
    assert isinstance(said, Decision)
    assert said.puts == (Reconciled(host="host-1", number=3, boot="boot-2"),)
    assert said.requires == (Unchanged("fence/host-1", 17),)
    assert said.reason == "nothing runs here that was started before fence 3"


def test_that_nothing_runs_is_not_said_while_anything_may() -> None:
    declared = fence("host-1", 3)
    assert under(declared, manifest(), status(), is_clean=True, at_rest=False) == {}, "a start may be under way"
    assert under(declared, manifest(), status(), at_rest=False) == {}
    assert under(declared, None, None, guest(), is_clean=True) == {"vm-a": ("kill", DEAD)}
    assert under(declared, None, None, guest(), is_clean=True, held=frozenset({("vm-a", "kill")})) == {}, "it would not die"
    assert under(declared, held=frozenset({("host-1", "clean")})) == {}


@pytest.mark.parametrize(("number", "boot"), [(2, "boot-2"), (3, "boot-1")])
def test_it_is_said_of_each_fence_and_each_boot(number: int, boot: str) -> None:
    before = reconciled(number, boot)
    said = {"host-1": ("say", "nothing runs here that was started before fence 3")}
    assert under(fence("host-1", 3), is_clean=True, reconciled=before) == said


def test_under_a_fence_ports_go_after_their_guests() -> None:
    wired = {"vm-a": frozenset({"02:00:00:00:00:01"})}
    declared = fence("host-1", 3)
    assert under(declared, manifest(), status(), guest(), wired=wired) == {"vm-a": ("kill", DEAD)}
    assert under(declared, manifest(), status(), wired=wired) == {"vm-a": ("unwire", DEAD), **CLEAN}
    assert under(declared, None, None, wired=wired, held=frozenset({("vm-a", "unwire")})) == CLEAN


# The loop.


def running(*vms: str) -> Machine:
    machine = Machine()
    machine.put(*(manifest(vm) for vm in vms))
    machine.settle()
    assert set(machine.hypervisor.actual()) == set(vms)
    return machine


def test_a_host_that_was_declared_dead_kills_all_and_says_so_and_then_obeys_its_manifests() -> None:
    machine = running("vm-a", "vm-b", "vm-c")
    machine.guests["vm-stray"] = Trace(Guest(vm="vm-stray", epoch=1, boots=1, state="running"))
    machine.store.commit({"manifest/host-1/vm-c": b"{}"})  # nobody can read it
    before = machine.store.list("status/host-1/vm/")
    machine.put(fence("host-1", 3, "fencing"))
    machine.settle()
    assert machine.hypervisor.actual() == {}
    assert machine.reconciled == Reconciled(host="host-1", number=3, boot="boot-1")
    assert machine.store.list("status/host-1/vm/").items == before.items

    machine.store.commit(deletes=["manifest/host-1/vm-b"])
    machine.put(manifest("vm-a", epoch=2), manifest("vm-c", epoch=2))
    machine.settle()
    assert machine.hypervisor.actual() == {}, "the fence is there"
    machine.store.commit(deletes=["fence/host-1"])
    machine.settle()
    assert set(machine.hypervisor.actual()) == {"vm-a", "vm-c"}
    assert machine.store.get("status/host-1/vm/vm-b") is None, "another host has it"
    assert machine.hypervisor.traces() == {"vm-a", "vm-c", "vm-stray"}, "and what belongs to nobody is kept"
    assert {vm for vm, _ in machine.pool.disks()} == {"vm-a", "vm-b", "vm-c"}


def test_a_daemon_that_starts_finds_the_fence_before_it_does_anything() -> None:
    machine = Machine()
    machine.guests[VM] = Trace(Guest(vm=VM, epoch=1, boots=1, state="running"))
    machine.put(fence("host-1"), manifest(VM), status(VM, phase="starting"))
    machine.settle()
    assert machine.hypervisor.actual() == {}
    assert (machine.boots(), list(machine.pool.disks())) == ([], [])
    assert machine.reconciled
    assert machine.inventory.boot == "boot-1", "of itself it may speak"


def test_nothing_begins_before_it_is_known_which_boot_of_the_machine_this_is() -> None:
    machine = Machine()
    machine.tell()
    machine.store.lose = "request"
    machine.settle()
    assert machine.status is None
    machine.clock.pass_s(0.2)
    machine.settle()
    assert machine.inventory.boot == "boot-1"
    assert machine.status

    machine.boot = "boot-2"
    machine.guests.clear()
    machine.daemon()
    machine.store.commits.clear()
    machine.settle()
    assert machine.store.commits[0] == {"status/host-1/inventory"}
    assert machine.status.crashes == 1


def test_a_guest_that_does_not_die_is_tried_again() -> None:
    machine = running(VM)
    machine.hypervisor.fail_next("kill", 2)
    machine.put(fence("host-1"))
    machine.settle()
    for pause_s in (1.0, 2.0):
        assert machine.hypervisor.actual()
        assert machine.reconciled is None
        machine.clock.pass_s(pause_s)
        machine.settle()
    assert machine.hypervisor.actual() == {}
    assert machine.reconciled


def test_what_was_left_of_guests_is_ended_under_each_fence_anew() -> None:
    machine = running(VM)
    killed: list[str] = []
    kill = machine.hypervisor.kill
    machine.hypervisor.kill = lambda vm: (killed.append(vm), kill(vm))[1]  # type: ignore[method-assign, func-returns-value]
    for number in (1, 2):
        machine.put(fence("host-1", number))
        machine.settle()
        assert machine.reconciled
        assert machine.reconciled.number == number
    assert killed == [VM] * 3, "its guest, and twice whatever else was in its control group"


def test_what_failed_before_a_fence_or_under_it_is_forgotten_with_it() -> None:
    machine = Machine()
    machine.fail_to_start()
    assert machine.status
    error = machine.status.error
    machine.put(fence("host-1"))
    machine.guests[VM] = Trace(Guest(vm=VM, epoch=1, boots=1, state="running"))
    machine.hypervisor.fail_next("kill")
    machine.settle()
    machine.clock.pass_s(1)
    machine.settle()
    assert machine.reconciled
    assert machine.status.error == error == "start: start was told to fail"
    machine.tell(epoch=2)
    machine.store.commit(deletes=["fence/host-1"])
    machine.settle()
    assert (machine.status.phase, machine.status.error) == ("running", "")


def test_a_fence_that_nobody_can_read_stops_everything() -> None:
    machine = running(VM)
    machine.store.commit({"fence/host-1": b"{}"})
    machine.tell(want="absent", disks_do="delete")
    machine.put(manifest("vm-b"))
    machine.settle()
    assert set(machine.hypervisor.actual()) == {VM}
    assert machine.store.get("status/host-1/vm/vm-b") is None


class Slow(Threads):
    """Workers of which one waits at a gate in the middle of a step. woken: something ended, or came to the gate."""

    def __init__(self) -> None:
        super().__init__(2, lambda: self.woken.release())
        self.woken = threading.Semaphore(0)
        self.at_gate, self.gate = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.at_gate.set()
        self.woken.release()
        assert self.gate.wait(30)


def settled(machine: Machine, slow: Slow, is_so: Callable[[], bool]) -> None:
    while not is_so():
        machine.loop.step()
        if machine.executor.busy():
            assert slow.woken.acquire(timeout=30)


def test_a_start_under_way_when_the_host_is_declared_dead_is_waited_for_and_undone() -> None:
    slow = Slow()
    machine = Machine(slow)
    start = machine.hypervisor.start
    machine.hypervisor.start = lambda spec: (slow.wait(), start(spec))[1]  # type: ignore[method-assign, func-returns-value]
    machine.tell()
    settled(machine, slow, slow.at_gate.is_set)
    machine.put(fence("host-1"))
    for _ in range(10):
        machine.loop.step()
    assert machine.reconciled is None, "a worker is at it"
    slow.gate.set()
    settled(machine, slow, lambda: machine.reconciled is not None)
    assert machine.hypervisor.actual() == {}
    assert machine.boots() == ["fake guest a epoch 1 boots 1"], "it had come up"


def test_a_start_under_way_that_has_not_come_to_its_guest_goes_no_further() -> None:
    slow = Slow()
    machine = Machine(slow)
    attachment = machine.pool.attachment
    machine.pool.attachment = lambda *disk: (slow.wait(), attachment(*disk))[1]  # type: ignore[method-assign, func-returns-value]
    machine.tell()
    settled(machine, slow, slow.at_gate.is_set)
    machine.put(fence("host-1"))
    machine.loop.step()
    slow.gate.set()
    settled(machine, slow, lambda: machine.reconciled is not None)
    assert machine.hypervisor.traces() == frozenset()


def test_nothing_is_started_without_the_lease_and_soon_when_it_is_back() -> None:
    machine = Machine(has_lease=False)
    machine.tell()
    machine.settle()
    for _ in range(100):
        machine.clock.pass_s(1)
        machine.settle()
    assert (machine.hypervisor.traces(), list(machine.pool.disks())) == (frozenset(), [])
    assert machine.status
    assert machine.status.error == "start: this host has lost its lease: others may take it for dead"
    machine.has_lease = True
    machine.clock.pass_s(1)
    machine.settle()
    assert (machine.status.phase, machine.status.error) == ("running", "")


def test_a_lease_lost_while_the_disk_was_made_is_noticed() -> None:
    machine = Machine()

    def lose(*_: object) -> None:
        machine.has_lease = False

    machine.pool.add_disk = lose  # type: ignore[method-assign, assignment]
    machine.tell()
    machine.settle()
    assert machine.hypervisor.traces() == frozenset()


def test_a_disk_that_another_guest_still_has_is_asked_for_every_second() -> None:
    machine = Machine()
    asked: list[float] = []

    def refuse(*_: object) -> None:
        asked.append(machine.clock.monotonic_s())
        raise NotYet("the disk is still locked")

    machine.pool.add_disk = refuse  # type: ignore[method-assign]
    machine.settle()
    machine.tell()
    for _ in range(4 * 60 + 1):
        machine.settle(3)
        machine.clock.pass_s(0.25)
    assert asked == list(range(61))


def test_the_daemon_is_heard_at_every_look_also_while_the_store_is_away_but_not_when_it_cannot_look() -> None:
    machine = running(VM)
    beats = machine.beats
    machine.loop.step()
    assert machine.beats == beats + 1
    machine.clock.pass_s(3600)  # without a word from the store
    machine.store.silent = True
    machine.loop.step()
    assert machine.beats == beats + 2
    machine.store.silent = False
    machine.hypervisor.fail_next("actual")
    with pytest.raises(Temporary):
        machine.loop.step()
    assert machine.beats == beats + 2
