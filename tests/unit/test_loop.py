"""How decisions are committed, and what becomes of them when others write too, answers get lost, or the view is old."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from tests.unit.world import PREFIXES, FaultyStore, HandClock, blob, host, manifest, placement, pool, vm
from ucloud.base.errors import Conflict, Temporary
from ucloud.loop import MAX_VIEW_AGE_S, Decider, batches, raise_to, run, run_all
from ucloud.model.decision import Decision, NotNewer, Requirement, Unchanged, absent, unchanged
from ucloud.model.facts import Facts
from ucloud.model.key import HostBlob
from ucloud.model.record import Record, encode
from ucloud.model.vm import Placement, Vm
from ucloud.scheduler.decide import decide as schedule
from ucloud.store.lock import Leadership
from ucloud.store.view import View

DEADLINE_S = 30.0


def decision(
    *puts: str, more: Sequence[Record] = (), deletes: Sequence[str] = (), requires: Iterable[Requirement] = ()
) -> Decision:
    """One that puts a placement for each of these VMs, and more."""
    records = (*(placement(vm) for vm in puts), *more)
    return Decision(verb="place", key="", reason="", puts=records, deletes=tuple(deletes), requires=tuple(requires))


class Cloud:
    """A decider on a store that can fail."""

    def __init__(self, decide: Callable[[Facts, float], Sequence[Decision]], *records: Record) -> None:
        self.clock = HandClock()
        self.store = FaultyStore(self.clock)
        self.put(*records)
        self.decide = decide
        self.asked = 0
        self.decider = self.another()

    def another(self, leadership: Leadership | None = None) -> Decider:
        view = View(self.store, PREFIXES, self.clock, lambda: None)
        return Decider("test", self.store, view, self._decide, self.clock, leadership)

    def leadership(self, owner: str, ttl_s: float = 6.0) -> Leadership:
        return Leadership(self.store, "test", owner, ttl_s, self.clock)

    def put(self, *records: Record) -> None:
        for record in records:
            self.store.commit({record.key: encode(record)})
        self.store.commits.clear()

    def keys(self, prefix: str) -> list[str]:
        return [item.key for item in self.store.list(prefix).items]

    def _decide(self, facts: Facts, now_s: float) -> Sequence[Decision]:
        self.asked += 1
        assert now_s == self.clock.now_s()
        return self.decide(facts, now_s)


def place_all(facts: Facts, now_s: float) -> list[Decision]:
    """The simplest that reaches an end: every VM gets a placement."""
    missing = [fact for fact in facts.all(Vm).values() if not facts.get(Placement, Placement.at(fact.record.id))]
    return [decision(fact.record.id, requires=(unchanged(fact), absent(Placement.at(fact.record.id)))) for fact in missing]


def vms(count: int) -> list[Vm]:
    return [vm(f"vm-{number:03}") for number in range(count)]


# Batches.


def test_a_transaction_has_16_decisions_at_most_and_keeps_their_order() -> None:
    decisions = [decision(f"vm-{number:03}") for number in range(35)]
    assert list(batches(decisions)) == [decisions[:16], decisions[16:32], decisions[32:]]
    assert list(batches([])) == []


def test_a_transaction_has_128_comparisons_at_most_the_leaders_lock_included() -> None:
    decisions = [decision(str(n), requires=(absent(f"{n}/{m}") for m in range(20))) for n in range(13)]
    assert [len(batch) for batch in batches(decisions)] == [6, 6, 1]
    exactly = [decision(str(n), requires=(absent(f"{n}/{m}") for m in range(32))) for n in range(4)]
    assert [len(batch) for batch in batches(exactly)] == [3, 1]


def test_a_requirement_that_several_share_counts_once() -> None:
    shared = [absent(f"shared/{number}") for number in range(100)]
    decisions = [decision(str(number), requires=[*shared, absent(str(number))]) for number in range(16)]
    assert [len(batch) for batch in batches(decisions)] == [16]


def test_a_transaction_has_128_writes_at_most() -> None:
    decisions = [decision(str(n), deletes=[f"{n}/{m}" for m in range(39)]) for n in range(4)]
    assert [len(batch) for batch in batches(decisions)] == [3, 1]


def test_no_key_is_written_twice_in_one_transaction() -> None:
    decisions = [decision("vm-a"), decision("vm-b"), decision(deletes=["placement/vm-a"]), decision("vm-b")]
    assert list(batches(decisions)) == [decisions[:2], decisions[2:]]


def test_the_same_may_be_put_by_several_in_one_transaction() -> None:
    shared, other = blob(b"a"), HostBlob(host="host-1", sha256=blob(b"a").sha256, data=b"a")
    same = [decision(f"vm-{number}", more=(shared, other)) for number in range(3)]
    differs = decision("vm-3", more=(msgspec.structs.replace(shared, data=b"b"),))
    gone = decision("vm-4", deletes=[shared.key])
    assert list(batches([*same, differs, gone])) == [same, [differs], [gone]]


def test_a_transaction_has_1_mib_at_most_what_several_put_counted_once() -> None:
    large = [blob(bytes([number]) * 65536) for number in range(24)]  # 87,384 bytes in base64
    decisions = [decision(f"vm-{number}", more=(record,)) for number, record in enumerate(large)]
    assert [len(batch) for batch in batches(decisions)] == [11, 11, 2]
    shared = [decision(f"vm-{number}", more=(large[0],)) for number in range(16)]
    assert [len(batch) for batch in batches(shared)] == [16]
    alone = decision("vm-0", more=tuple(large[:13]))
    assert list(batches([alone, decisions[1]])) == [[alone], [decisions[1]]]


def test_raising_touches_only_what_was_written_and_never_lowers() -> None:
    raised = {"manifest/host-1/": 9}
    assert raise_to(NotNewer("manifest/host-1/", 5), raised) == NotNewer("manifest/host-1/", 9)
    assert raise_to(NotNewer("manifest/host-1/", 12), raised) == NotNewer("manifest/host-1/", 12)
    assert raise_to(NotNewer("manifest/host-2/", 5), raised) == NotNewer("manifest/host-2/", 5)
    assert raise_to(Unchanged("placement/vm-1", 0), {"placement/vm-1": 9}) == Unchanged("placement/vm-1", 9)
    assert raise_to(Unchanged("placement/vm-2", 5), {"placement/vm-1": 9}) == Unchanged("placement/vm-2", 5)


# Committing.


def test_what_was_decided_is_committed_and_then_there_is_nothing_left() -> None:
    cloud = Cloud(place_all, *vms(40))
    assert cloud.decider.step() == 10.0
    assert [len(keys) for keys in cloud.store.commits] == [16, 16, 8]
    assert cloud.decider.step() == 10.0
    assert (cloud.asked, len(cloud.store.commits)) == (2, 3)


def test_of_a_batch_only_what_no_longer_holds_is_left_out() -> None:
    def decide(facts: Facts, now_s: float) -> list[Decision]:
        stale = decision("vm-stale", requires=[absent("vm/vm-004")])
        return [*place_all(facts, now_s)[:7], stale, *place_all(facts, now_s)[7:]]

    cloud = Cloud(decide, *vms(12))
    assert cloud.decider.step() < 1.0, "it looks again soon"
    assert cloud.keys("placement/") == [f"placement/vm-{number:03}" for number in range(12)]


def test_somebody_who_was_faster_is_not_overwritten() -> None:
    cloud = Cloud(place_all, vm("vm-c"), vm("vm-d"))

    def decide_while_another_writes(facts: Facts, now_s: float) -> list[Decision]:
        decisions = place_all(facts, now_s)
        cloud.put(placement("vm-c", host="host-9"))
        return decisions

    cloud.decide = decide_while_another_writes
    cloud.decider.step()
    item = cloud.store.get("placement/vm-c")
    assert item is not None
    assert b"host-9" in item.value
    assert cloud.store.get("placement/vm-d"), "the other half of the batch still holds"


def test_what_one_pass_wrote_to_a_host_does_not_hold_up_the_rest_of_it() -> None:
    cloud = Cloud(schedule, pool(), *host("host-1", 1 << 20, 64), *vms(50))
    assert cloud.decider.step() == 10.0
    assert [len(keys) // 2 for keys in cloud.store.commits] == [16, 16, 16, 2]


def test_but_what_somebody_else_wrote_to_it_does() -> None:
    def decide(facts: Facts, now_s: float) -> list[Decision]:
        decisions = schedule(facts, now_s)
        cloud.put(manifest("vm-else", memory_mib=4096))
        return decisions

    cloud = Cloud(decide, pool(), *host("host-1", 4096), vm("vm-a"))
    cloud.decider.step()
    assert cloud.keys("placement/") == []
    cloud.decide = schedule
    cloud.decider.step()
    item = cloud.store.get("placement/vm-a")
    assert item is not None
    assert b"no host has 512 MiB free" in item.value


def test_unknown_fields_of_a_newer_version_are_kept() -> None:
    def rename(facts: Facts, now_s: float) -> list[Decision]:
        fact = facts.get(Vm, "vm/vm-a")
        assert fact is not None
        done = fact.record.name == "b"
        return [] if done else [Decision(verb="", key="", reason="", puts=(vm(name="b"),), requires=(unchanged(fact),))]

    cloud = Cloud(rename)
    cloud.store.commit({"vm/vm-a": encode(vm(), {"colour": "blue"})})
    cloud.decider.step()
    item = cloud.store.get("vm/vm-a")
    assert item is not None
    assert b'"colour":"blue"' in item.value


# What it does not decide on.


def test_it_waits_until_its_own_writes_have_come_back() -> None:
    cloud = Cloud(place_all, vm("vm-a"))
    cloud.decider.step()
    cloud.store.silent = True
    cloud.decider.step()
    assert cloud.asked == 1
    cloud.store.silent = False
    cloud.decider.step()
    assert (cloud.asked, len(cloud.store.commits)) == (2, 1)


def test_a_write_that_changed_nothing_is_not_waited_for_without_end() -> None:
    def sweep(facts: Facts, now_s: float) -> list[Decision]:
        return [decision("vm-a", deletes=["vm/vm-a"])] if cloud.asked == 1 else []

    cloud = Cloud(sweep)
    cloud.decider.step()
    for _ in range(3):
        cloud.clock.pass_s(MAX_VIEW_AGE_S)
        cloud.decider.step()
    assert cloud.asked > 1


@pytest.mark.parametrize(("lost", "commits"), [("request", 1), ("answer", 1)])
def test_after_a_lost_answer_it_reads_again_before_it_decides_again(lost: str, commits: int) -> None:
    cloud = Cloud(place_all, vm("vm-a"))
    cloud.store.lose, cloud.store.silent = lost, True  # the watch does not tell
    with pytest.raises(Temporary):
        cloud.decider.step()
    cloud.decider.step()
    assert len(cloud.store.commits) == commits
    assert cloud.keys("placement/") == ["placement/vm-a"]


def test_a_lost_answer_ends_the_pass() -> None:
    cloud = Cloud(place_all, *vms(40))
    cloud.store.lose = "answer"
    with pytest.raises(Temporary):
        cloud.decider.step()
    assert len(cloud.store.commits) == 1


def test_it_does_not_decide_on_an_old_view() -> None:
    cloud = Cloud(place_all)
    cloud.decider.step()
    cloud.store.silent = True
    cloud.clock.pass_s(MAX_VIEW_AGE_S)
    cloud.decider.step()
    assert cloud.asked == 2
    cloud.clock.pass_s(10.0)  # it decides that often, whether anything changed or not
    assert cloud.decider.step() <= 1.0, "it looks again soon"
    assert cloud.asked == 2
    cloud.store.silent = False
    cloud.decider.step()
    assert cloud.asked == 3


def test_it_decides_only_when_something_changed_or_time_has_passed() -> None:
    cloud = Cloud(place_all, vm("vm-a"))
    for _ in range(5):
        cloud.decider.step()
    assert cloud.asked == 2, "for the VM, and for its own placement"
    cloud.put(vm("vm-b"))
    for _ in range(5):
        cloud.decider.step()
    assert cloud.asked == 4
    cloud.clock.pass_s(9.9)
    assert cloud.decider.step() == pytest.approx(0.1)
    cloud.clock.pass_s(0.2)
    cloud.decider.step()
    assert cloud.asked == 5


def test_what_a_refresh_took_in_before_it_broke_is_decided_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(place_all)
    view = View(cloud.store, PREFIXES, cloud.clock, lambda: None)
    decider = Decider("test", cloud.store, view, cloud._decide, cloud.clock)
    decider.step()
    cloud.put(vm("vm-a"))

    def broken(*_: object) -> None:
        raise Temporary("no answer")

    view.distrust()
    monkeypatch.setattr(cloud.store, "watch", broken)
    with pytest.raises(Temporary):
        decider.step()
    monkeypatch.undo()
    decider.step()
    assert cloud.keys("placement/") == ["placement/vm-a"]


def test_one_that_heeds_time_alone_decides_once_a_period() -> None:
    cloud = Cloud(place_all, vm("vm-a"))
    view = View(cloud.store, PREFIXES, cloud.clock, lambda: None)
    sweeper = Decider("test", cloud.store, view, cloud._decide, cloud.clock, period_s=600.0, heeds_changes=False)
    sweeper.step()
    cloud.put(vm("vm-b"))
    sweeper.step()
    assert cloud.asked == 1
    cloud.clock.pass_s(600.0)
    sweeper.step()
    assert cloud.asked == 2


# Leadership.


def test_only_the_leader_decides_until_it_is_gone() -> None:
    cloud = Cloud(place_all, vm("vm-a"))
    first, second = (cloud.another(cloud.leadership(owner)) for owner in ("first", "second"))
    assert first.step() == 2.0, "a leader renews its lease in time"
    second.step()
    assert cloud.asked == 1
    cloud.put(vm("vm-b"))
    cloud.clock.pass_s(7)
    second.step()  # sees that the lock is gone, takes it
    second.step()
    assert cloud.keys("placement/") == ["placement/vm-a", "placement/vm-b"]
    first.step()
    assert b"second" in cloud.store.get("lock/test").value  # type: ignore[union-attr]


def test_a_deposed_leader_that_does_not_know_it_yet_writes_nothing() -> None:
    cloud = Cloud(place_all)
    first = cloud.another(cloud.leadership("first"))
    first.step()
    cloud.put(vm("vm-a"))

    def decide_slowly(facts: Facts, now_s: float) -> list[Decision]:
        decisions = place_all(facts, now_s)
        cloud.clock.time_s += 7  # the lease runs out meanwhile
        return decisions

    cloud.decide = decide_slowly
    assert first.step() < 1.0
    assert cloud.keys("placement/") == []


def test_a_long_pass_keeps_its_leadership(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(place_all, *vms(160))
    first = cloud.another(cloud.leadership("first", ttl_s=6.0))
    commit = cloud.store.commit

    def commit_slowly(*what: Any, **lease: Any) -> int:
        cloud.clock.pass_s(1.0)
        return commit(*what, **lease)

    monkeypatch.setattr(cloud.store, "commit", commit_slowly)
    first.step()
    assert len(cloud.keys("placement/")) == 160


# Running.


class Steps:
    """A loop that does what it is told, one thing at each step, and then pauses for very long."""

    def __init__(self, name: str, *things: Exception | float) -> None:
        self.name = name
        self.count = 0
        self.reached = threading.Semaphore(0)
        self._things = list(things)

    def step(self) -> float:
        self.count += 1
        self.reached.release()
        thing = self._things.pop(0) if self._things else 3600.0
        if isinstance(thing, Exception):
            raise thing
        return thing

    def wait(self, steps: int = 1) -> None:
        for _ in range(steps):
            assert self.reached.acquire(timeout=DEADLINE_S), f"{self.name}: no step for {DEADLINE_S} s"


@pytest.fixture
def background() -> Iterable[Callable[[Steps], tuple[threading.Event, threading.Event, threading.Thread]]]:
    started = []

    def start(loop: Steps) -> tuple[threading.Event, threading.Event, threading.Thread]:
        woken, stop = threading.Event(), threading.Event()
        thread = threading.Thread(target=run, args=(loop, woken, stop), daemon=True)
        thread.start()
        started.append((woken, stop, thread))
        return woken, stop, thread

    yield start
    for woken, stop, thread in started:
        stop.set()
        woken.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_a_loop_looks_again_when_woken_or_when_its_pause_is_over(background: Callable) -> None:
    loop = Steps("loop", 0.001)
    woken, _, _ = background(loop)
    loop.wait(2)
    woken.set()
    loop.wait()
    assert loop.count == 3


def test_conflict_and_temporary_are_no_end(background: Callable) -> None:
    loop = Steps("loop", Conflict("too late"), Temporary("not now", 0.001))
    background(loop)
    loop.wait(3)


def test_after_temporary_a_loop_is_deaf_to_wake_ups_but_not_to_the_end(background: Callable) -> None:
    loop = Steps("loop", Temporary("not now", 3600.0))
    woken, stop, thread = background(loop)
    loop.wait()
    woken.set()
    stop.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert loop.count == 1


def test_a_bug_in_one_loop_ends_all_and_is_raised() -> None:
    stop = threading.Event()
    loops = [Steps("healthy"), Steps("broken", ZeroDivisionError("a bug"))]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_all([(loop, threading.Event()) for loop in loops], stop)
    assert stop.is_set()


def test_all_loops_end_together_when_told_to() -> None:
    stop = threading.Event()
    loops = [Steps("one"), Steps("two")]
    thread = threading.Thread(target=run_all, args=([(loop, threading.Event()) for loop in loops], stop), daemon=True)
    thread.start()
    for loop in loops:
        loop.wait()
    stop.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
