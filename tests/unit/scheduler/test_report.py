"""What the scheduler tells people."""

from tests.unit.world import NOW, NOW_S, World, fence, host, manifest, placement, pool, status, vm
from ucloud.model.decision import Decision
from ucloud.model.event import Event, News
from ucloud.model.record import decode
from ucloud.scheduler.decide import decide
from ucloud.scheduler.report import SchedulerReport, news_of
from ucloud.store.journal import PERIOD_S, Journal


class Case:
    def __init__(self, *records: object) -> None:
        self.world = World(pool(), *records)  # type: ignore[arg-type]
        self.journal = Journal(self.world.store, "scheduler", self.world.clock, kept=10)
        self.report = SchedulerReport(self.journal)

    def look(self, leads: bool = True) -> None:
        self.report.looked(self.world.facts(), leads)

    def told(self) -> list[tuple[str, str, str]]:
        """Verb, about and name of all events until now."""
        self.world.clock.pass_s(PERIOD_S)
        self.journal.step()
        events = [decode(Event, item.value)[0] for item in self.world.store.list("event/").items]
        return [(event.verb, event.about, event.name) for event in events]


def test_hosts_that_fall_silent_and_are_heard_of_again() -> None:
    case = Case(*host("host-1"), *host("host-2"))
    case.look()
    case.world.delete("alive/host-2")
    case.look()
    case.look()
    case.world.put(host("host-2")[1])
    case.look()
    assert case.told() == [("silent", "host/host-2", "2"), ("heard", "host/host-2", "2")]


def test_one_that_stands_by_tells_nothing_and_nothing_old_when_it_leads() -> None:
    case = Case(*host("host-1"), *host("host-2"))
    case.look(leads=False)
    case.world.delete("alive/host-1")
    case.look(leads=False)
    case.world.delete("alive/host-2")
    case.look()
    assert case.told() == [("silent", "host/host-2", "2")]


def test_decisions_name_the_vm_also_the_last_one() -> None:
    case = Case(*host("host-1"), vm("vm-web"))
    facts = case.world.facts()
    (placed,) = decide(facts, NOW_S)
    case.report.decided(facts, placed)
    gone = Decision(verb="forget", key="vm/vm-web", reason="no trace is left", deletes=("vm/vm-web",))
    case.report.decided(facts, gone)
    assert case.told() == [("placed", "vm/vm-web", "web"), ("forgotten", "vm/vm-web", "web")]


def test_waiting_for_the_same_is_told_once_whatever_the_numbers() -> None:
    def news(before: object, reason: str) -> News | None:
        facts = World(vm(), before).facts()  # type: ignore[arg-type]
        return news_of(facts, Decision(verb="wait", key="vm/vm-a", reason=reason))

    waits = placement(reason="no host has 512 MiB free; the most is 256 MiB on h2")
    assert news(waits, "no host has 512 MiB free; the most is 128 MiB on h2") is None
    assert news(waits, "h2, where it shall run, is down") == News("waits", "h2, where it shall run, is down")
    grows = placement(host="host-1", waits_for="h1 has 100 MiB free")
    assert news(grows, "h1 has 50 MiB free") is None
    assert news(placement(host="host-1"), "h1 has 50 MiB free") == News("waits", "h1 has 50 MiB free")


def test_a_manifest_that_says_the_same_is_no_news() -> None:
    def news(**changes: object) -> News | None:
        facts = World(vm(), manifest()).facts()
        told = manifest(revisions={"vm": 9}, **changes)
        return news_of(facts, Decision(verb="tell", key="vm/vm-a", reason="its host shall run it", puts=(told,)))

    assert news() is None
    assert news(boots=2) == News("told", "its host shall run it")


def test_what_became_of_the_vms_of_a_dead_host_is_told_once() -> None:
    shared = pool("shared", shared=True, fence="same-kernel")
    vms = [vm("vm-a", pool="shared"), vm("vm-b", pool="shared", memory_mib=5000), vm("vm-c")]
    said = {"vm-a": ("shared",), "vm-b": ("shared",), "vm-c": ("local",)}
    case = Case(shared, *host("host-1", 1 << 20), *vms)
    settle(case)
    case.world.put(*(status(id, pools=pools, leased=True) for id, pools in said.items()), *host("host-2"))
    case.world.delete("alive/host-1")
    case.world.put(fence(number=3, proofs={"shared": "its lease has run out"}))
    assert settle(case) == {
        "vm-a": News("moved", "1 was declared dead (fence 3); on 2: of the hosts with room it had the most free memory"),
        "vm-b": News("waits", "1 was declared dead (fence 3), and no host has 5000 MiB free; the most is 3584 MiB on 2"),
        "vm-c": News("waits", "1 to come back: its disk is in the pool local, of which 1 has its own"),
    }
    case.world.put(fence(number=3, proofs={"shared": "its lease has run out"}, errors={"local": "only it has that"}))
    assert settle(case) == {"vm-c": None}, "it is told the same under a new epoch"
    case.world.put(host("host-1", removed_at=NOW, lost=True)[0])
    assert settle(case) == {"vm-c": News("lost", "its disk was lost with 1, which alone had it (pool local)")}


def settle(case: Case) -> dict[str, News | None]:
    """What is said of each VM that something is decided about."""
    told = dict[str, News | None]()
    while decisions := decide(case.world.facts(), NOW_S):
        decision = decisions[0]
        told[decision.key.rpartition("/")[2]] = news_of(case.world.facts(), decision)
        case.world.commit([decision])
    return told
