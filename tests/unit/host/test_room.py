"""A host that has less memory than its VMs need: which of them run, and what the others are told."""

import msgspec

from tests.unit.machine import VM, Machine
from tests.unit.world import NOW_S, manifest, status
from ucloud.host.decide import World, decide, without_room
from ucloud.model.decision import Decision
from ucloud.model.guest import Guest
from ucloud.model.record import Fact, decode
from ucloud.model.vm import Manifest, Status

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
NO_ROOM = "this host has 1024 MiB for guests, of which 0 are free: it needs 512"


def world(told: list[Manifest], said: list[Status], running: str = "", memory_mib: float = 1024) -> World:
    return World(
        host="host-1",
        manifests={each.vm: Fact(each.key, each, 7) for each in told},
        statuses={each.vm: Fact(each.key, each, 9) for each in said},
        guests={vm: Guest(vm=vm, epoch=1, boots=1, state="running") for vm in running.split()},
        memory_mib=memory_mib,
    )


def three() -> list[Manifest]:
    return [manifest(vm, memory_mib=512) for vm in ("vm-a", "vm-b", "vm-c")]


def starting(vm: str, since: str = EARLY) -> Status:
    return status(vm, phase="starting", since=since)


def test_those_that_have_run_here_for_longest_are_started() -> None:
    said = [starting("vm-a", LATE), starting("vm-b"), starting("vm-c")]
    assert without_room(world(three(), said)) == {"vm-a": NO_ROOM}
    assert without_room(world(three(), said[:2])) == {"vm-c": NO_ROOM}, "nothing was said of it yet"
    assert without_room(world(three(), said, memory_mib=1536)) == {}


def test_who_runs_stays() -> None:
    said = [starting("vm-a"), starting("vm-b"), starting("vm-c", LATE)]
    assert without_room(world(three(), said, running="vm-c")) == {"vm-b": NO_ROOM}
    overfull = without_room(world(three(), said, running="vm-b vm-c", memory_mib=600))
    assert overfull == {"vm-a": "this host has 600 MiB for guests, of which 0 are free: it needs 512"}


def test_a_smaller_one_takes_what_is_left() -> None:
    told = [manifest("vm-a", memory_mib=2048), manifest("vm-b", memory_mib=512)]
    why = "this host has 1024 MiB for guests, of which 1024 are free: it needs 2048"
    assert without_room(world(told, [starting("vm-a"), starting("vm-b")])) == {"vm-a": why}


def test_who_does_not_run_takes_no_room() -> None:
    said = [starting("vm-a"), starting("vm-b"), starting("vm-c", LATE)]
    off = msgspec.structs.replace(said[0], phase="off")
    assert without_room(world(three(), [off, *said[1:]])) == {}
    stopped = [manifest("vm-a", memory_mib=512, want="stopped"), *three()[1:]]
    assert without_room(world(stopped, said)) == {}
    assert without_room(world(stopped, said, running="vm-a")) == {"vm-c": NO_ROOM}, "it still runs"
    assert without_room(world([manifest("vm-a", memory_mib=512, powered_off=True), *three()[1:]], said[1:])) == {}


def test_who_is_not_started_is_told_why_and_nothing_else_happens_to_it() -> None:
    said = [starting("vm-a"), starting("vm-b"), starting("vm-c", LATE)]
    steps = decide(world(three(), said), NOW_S)
    told = steps["vm-c"]
    assert isinstance(told, Decision)
    assert told.puts == (msgspec.structs.replace(said[2], error=NO_ROOM),)
    assert {vm: step.verb for vm, step in steps.items()} == {"vm-a": "start", "vm-b": "start", "vm-c": "say"}
    heard = [*said[:2], msgspec.structs.replace(said[2], error=NO_ROOM)]
    assert "vm-c" not in decide(world(three(), heard), NOW_S)


def test_it_runs_as_soon_as_there_is_room() -> None:
    """A step of one VM alone looks at all, as the memory is that of all."""
    machine = Machine()  # of 4096 MiB
    machine.tell(memory_mib=4096)
    machine.settle()
    assert machine.hypervisor.actual().keys() == {VM}
    machine.put(manifest("vm-b", memory_mib=64))
    machine.settle()
    assert machine.hypervisor.actual().keys() == {VM}
    item = machine.store.get("status/host-1/vm/vm-b")
    assert item
    said, _ = decode(Status, item.value)
    assert (said.phase, said.error) == ("starting", "this host has 4096 MiB for guests, of which 0 are free: it needs 64")
    machine.tell(want="stopped", hard=True, memory_mib=4096)
    machine.settle()
    assert machine.hypervisor.actual().keys() == {"vm-b"}
