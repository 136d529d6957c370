"""What the host manager remembers: silence, too many at once, etcd's own silence, fence commands."""

import pytest

from tests.unit.hostmanager.test_decide import living, on
from tests.unit.world import HandClock, World, fence, manifest, pool
from ucloud.driver.fence.fake import FakeFence
from ucloud.hostmanager.manager import GRACE_S, PATIENCE, PERIOD_S, Manager, Task
from ucloud.model.decision import Decision
from ucloud.model.host import Alive
from ucloud.store.journal import Journal

TTL_S = 2.0
PATIENCE_S = PATIENCE * TTL_S


class Site:
    """A cloud of this many hosts, all of which live, each with a VM."""

    def __init__(self, hosts: int = 3, pool_fence: str = "same-kernel") -> None:
        self.hosts = [f"host-{number}" for number in range(1, hosts + 1)]
        self.world = World(pool("shared", shared=True, fence=pool_fence))
        for host in self.hosts:
            self.world.put(*living(host), manifest(f"vm-{host}", host, disks=(on("shared"),)))
        self.clock, self.hands = HandClock(), FakeFence()
        self.tasks: list[Task] | None = None  # those that a test begins itself
        self.manager = self.new_manager()
        assert self.declared(int(TTL_S + GRACE_S)) == []

    def new_manager(self) -> Manager:
        return Manager(
            self.clock, TTL_S, self.hands, Journal(self.world.store, "hostmanager", self.clock, 100), begin=self._begin
        )

    def _begin(self, task: Task) -> None:
        if self.tasks is None:
            task()
        else:
            self.tasks.append(task)

    def step(self) -> list[Decision]:
        facts = self.world.facts()
        self.manager.looked(facts, leads=True)
        decisions = self.manager.decide(facts, self.clock.now_s())
        self.world.commit(decisions)
        for decision in decisions:
            self.manager.decided(facts, decision)
        return decisions

    def fall_silent(self, *hosts: str) -> None:
        self.world.delete(*(Alive.at(host) for host in hosts))

    def declared(self, for_s: int = 0) -> list[tuple[int, str]]:
        """After how many seconds each host was declared dead, of so many that pass."""
        found = []
        for second in range(for_s + 1):
            found += [(second, decision.key[6:]) for decision in self.step() if decision.verb == "declare"]
            self.clock.pass_s(1)
        return found


def test_one_host_is_declared_dead_when_its_next_renewal_would_be_overdue() -> None:
    site = Site()
    site.fall_silent("host-2")
    assert site.declared(2) == [(PATIENCE_S, "host-2")]


def test_two_of_three_are_no_fault_of_the_network() -> None:
    site = Site()
    site.fall_silent("host-2", "host-3")
    assert site.declared(2) == [(PATIENCE_S, "host-2"), (PATIENCE_S, "host-3")]


def test_who_is_back_by_then_was_never_silent() -> None:
    """etcd may take leases of many away that were renewed in time."""
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.step() == []
    site.clock.pass_s(PATIENCE_S / 2)
    site.world.put(*(living(host)[1] for host in ("host-2", "host-3", "host-4")))
    assert site.declared(2) == []
    site.fall_silent("host-5")
    assert site.declared(2) == [(PATIENCE_S, "host-5")], "nor were they too many"


def test_it_is_looked_at_again_when_the_first_one_is_silent_for_long_enough() -> None:
    site = Site()
    assert site.manager.period_s() == PERIOD_S
    site.fall_silent("host-2")
    site.step()
    site.clock.pass_s(0.75 * PATIENCE_S)
    assert site.manager.period_s() == pytest.approx(0.25 * PATIENCE_S)


def test_too_many_at_once_wait_a_minute_and_then_go_one_every_ten_seconds() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(100) == [(61, "host-2"), (71, "host-3"), (81, "host-4")]
    site.fall_silent("host-5")
    assert site.declared(2) == [(PATIENCE_S, "host-5")], "it is over"


def test_those_that_come_back_within_that_minute_are_none() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(30) == []
    site.world.put(*(living(host)[1] for host in ("host-2", "host-4")))
    assert site.declared(60) == [(30, "host-3")]


def test_who_leads_anew_in_the_middle_waits_no_less() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(50) == []
    site.manager = site.new_manager()
    assert site.declared(62) == [(61, "host-2")]


def test_hosts_that_were_only_added_are_no_sign_of_a_fault() -> None:
    site = Site(hosts=8)
    site.world.put(*(living(f"host-{number}")[0] for number in range(9, 12)))
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(90) == [(61, "host-2"), (71, "host-3"), (81, "host-4")]
    site.fall_silent("host-5")
    assert site.declared(2) == [(PATIENCE_S, "host-5")], "nor do they keep it from being over"


def test_the_first_look_is_not_believed() -> None:
    """After a power cut of the whole site this may be the first machine that is back."""
    site = Site()
    site.fall_silent("host-2")
    site.manager = site.new_manager()
    assert site.declared(5) == []
    site.world.put(living("host-2")[1])
    assert site.declared(20) == []


def test_when_etcd_has_not_answered_hosts_get_time_to_be_heard() -> None:
    site = Site()
    site.clock.pass_s(60)  # no look in between
    site.fall_silent("host-2")
    assert site.declared(20) == [(TTL_S + GRACE_S, "host-2")]


def test_a_fence_command_is_repeated_until_it_succeeds_and_by_the_next_leader() -> None:
    site = Site(pool_fence="command")
    site.hands.error = "no route to the file server"
    site.fall_silent("host-2")
    assert site.declared(5) == [(PATIENCE_S, "host-2")]
    assert site.hands.cut == set()
    site.manager = site.new_manager()
    site.hands.error = ""
    site.declared(5)
    assert site.hands.cut == {("shared", "host-2")}
    assert site.world.facts().all(type(fence()))["fence/host-2"].record.proofs == {"shared": "2 was cut off shared"}


def test_a_command_holds_up_no_other_decision_and_is_begun_once() -> None:
    site = Site(pool_fence="command")
    site.tasks = []
    site.fall_silent("host-2")
    assert site.declared(3) == [(PATIENCE_S, "host-2")]
    [task] = site.tasks
    task()
    site.declared(1)
    assert "shared" in site.world.facts().all(type(fence()))["fence/host-2"].record.proofs


def test_a_command_that_breaks_off_by_a_bug_is_run_again() -> None:
    site = Site(pool_fence="command")
    site.tasks = []
    site.fall_silent("host-2")
    site.declared(3)
    hands, site.hands.cut = site.hands.cut, None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        site.tasks.pop()()
    site.declared(1)
    assert site.world.facts().all(type(fence()))["fence/host-2"].record.errors == {
        "shared": "its fence command broke off, see the log of the control daemon"
    }
    site.hands.cut = hands
    site.declared(3)
    assert len(site.tasks) == 1
