"""A record that cannot be read is said in an event, and what it is about is left alone; everything else goes on."""

import pytest

from tests.unit.world import NOW_S, World, host, pool, vm
from ucloud.loop import Decider
from ucloud.scheduler.decide import decide
from ucloud.scheduler.report import SchedulerReport
from ucloud.store.journal import PERIOD_S, Journal
from ucloud.store.lock import Leadership


@pytest.mark.parametrize("key", ["placement/vm-a", "manifest/host-1/vm-a", "status/host-1/vm/vm-a", "vm/vm-a"])
def test_nothing_is_decided_about_it(key: str) -> None:
    world = World(pool(), *host("host-1"), vm("vm-a"))
    while decisions := decide(world.facts(), NOW_S):
        world.commit(decisions)
    world.store.commit({key: b'{"nonsense": 1}'})
    world.put(vm("vm-b"), *host("host-2"), *([] if key == "vm/vm-a" else [vm("vm-a", power="off")]))
    assert [(decision.verb, decision.key) for decision in decide(world.facts(), NOW_S)] == [("place", "vm/vm-b")]


def test_nothing_is_placed_on_a_host_whose_load_is_not_known() -> None:
    world = World(pool(), *host("host-1"), *host("host-2", 1024), vm("vm-b"))
    world.store.commit({"manifest/host-1/vm-a": b"?"})
    (decision,) = decide(world.facts(), NOW_S)
    assert decision.puts[0].host == "host-2"


def test_it_is_said_once() -> None:
    world = World(pool())
    world.store.commit({"vm/vm-a": b"[]"})
    journal = Journal(world.store, "scheduler", world.clock, kept=10)
    leadership = Leadership(world.store, "scheduler", "me", 6.0, world.clock)
    report = SchedulerReport(journal)
    loop = Decider("scheduler", world.store, world.view, decide, world.clock, leadership, report=report)
    loop.step()
    loop.step()
    world.clock.pass_s(PERIOD_S)
    journal.step()
    (event,) = world.store.list("event/").items
    assert b"vm/vm-a" in event.value
    assert b"left out" in event.value


@pytest.mark.parametrize("key", ["placement/vm-a", "vm/vm-a"])
def test_a_vm_that_cannot_be_read_may_be_of_any_group(key: str) -> None:
    """Found by the simulator: such a VM was not counted, and another of its group came beside it."""
    world = World(pool(), *host("host-1"), vm("vm-a", spread="web"))
    world.commit(decide(world.facts(), NOW_S))
    world.store.commit({key: b'{"nonsense": 1}'})
    world.put(vm("vm-b", spread="web"))
    (decision,) = decide(world.facts(), NOW_S)
    assert (decision.verb, decision.puts[0].host) == ("wait", "")
    world.put(*host("host-2"))
    (decision,) = decide(world.facts(), NOW_S)
    assert decision.puts[0].host == "host-2"
