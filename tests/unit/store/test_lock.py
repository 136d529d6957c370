"""Leadership and heartbeat, on the memory store, with answers lost on purpose."""

from collections.abc import Callable
from typing import Any

import pytest

from ucloud.base.errors import Conflict, Temporary
from ucloud.model.decision import Unchanged
from ucloud.model.host import Alive
from ucloud.store.lease import LeasedKey
from ucloud.store.lock import Leadership
from ucloud.store.memory import MemoryStore
from ucloud.store.view import View

TTL_S = 3.0


class ManualClock:
    time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s

    def boot_s(self) -> float:
        return self.time_s


class FaultyStore(MemoryStore):
    """Loses what `faults` names: the request, or only its answer. Counts calls."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.faults: dict[str, str] = {}
        self.calls: list[str] = []

    def _faulty(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls.append(name)
        fault = self.faults.pop(name, "")
        answer = None if fault == "request" else call()
        if fault:
            raise Temporary(f"the {fault} of {name} was lost")
        return answer

    def commit(self, *args: Any, **kwargs: Any) -> int:
        return self._faulty("commit", lambda: super(FaultyStore, self).commit(*args, **kwargs))

    def grant(self, ttl_s: float) -> int:
        return self._faulty("grant", lambda: super(FaultyStore, self).grant(ttl_s))

    def keep_alive(self, lease: int) -> float:
        return self._faulty("keep_alive", lambda: super(FaultyStore, self).keep_alive(lease))

    def get(self, key: str) -> Any:
        return self._faulty("get", lambda: super(FaultyStore, self).get(key))


class Candidate:
    """A control process with its own view."""

    def __init__(self, store: FaultyStore, owner: str, clock: ManualClock) -> None:
        self.owner = owner
        self.view = View(store, ["lock/"], clock, lambda: None)
        self.leadership = Leadership(store, "scheduler", owner, TTL_S, clock)

    def hold(self) -> Unchanged | None:
        self.view.refresh()
        return self.leadership.hold(self.view)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> FaultyStore:
    return FaultyStore(clock)


@pytest.fixture
def candidates(store: FaultyStore, clock: ManualClock) -> tuple[Candidate, Candidate]:
    return Candidate(store, "control-1", clock), Candidate(store, "control-2", clock)


def test_one_leads_and_the_other_waits_without_asking(
    store: FaultyStore, clock: ManualClock, candidates: tuple[Candidate, Candidate]
) -> None:
    first, second = candidates
    held = first.hold()
    assert held
    for _ in range(20):
        clock.time_s += TTL_S / 3
        assert first.hold() == held
        store.calls.clear()
        assert second.hold() is None
        assert store.calls == []
    store.commit({"vm/a": b""}, requires=[held])


def test_a_leader_with_an_older_view_goes_on_leading(store: FaultyStore, candidates: tuple[Candidate, Candidate]) -> None:
    first, _ = candidates
    held = first.hold()
    store.calls.clear()
    assert held
    assert first.leadership.hold(first.view) == held
    assert store.calls == []


def test_two_that_race_without_seeing_each_other(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates
    second.view.refresh()
    assert first.hold()
    assert second.leadership.hold(second.view) is None


def test_a_leader_that_stood_still_is_deposed(
    store: FaultyStore, clock: ManualClock, candidates: tuple[Candidate, Candidate]
) -> None:
    first, second = candidates
    stale = first.hold()
    clock.time_s += TTL_S + 1
    held = second.hold()
    assert held
    assert stale
    assert held.revision > stale.revision
    with pytest.raises(Conflict):
        store.commit({"vm/a": b""}, requires=[stale])
    assert first.hold() is None
    clock.time_s += TTL_S + 1
    assert first.hold()


def test_release_lets_another_lead_at_once(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates
    assert first.hold()
    first.leadership.release()
    assert second.hold()
    assert first.hold() is None


def test_a_leader_whose_lock_was_deleted_takes_it_anew(store: FaultyStore, candidates: tuple[Candidate, Candidate]) -> None:
    first, _ = candidates
    old = first.hold()
    store.commit(deletes=["lock/scheduler"])
    new = first.hold()
    assert old
    assert new
    assert new.revision > old.revision


@pytest.mark.parametrize("refresh", [True, False])
def test_a_lock_whose_answer_was_lost_is_recognized(
    store: FaultyStore, candidates: tuple[Candidate, Candidate], refresh: bool
) -> None:
    first, second = candidates
    store.faults["commit"] = "answer"
    with pytest.raises(Temporary):
        first.hold()
    held = first.hold() if refresh else first.leadership.hold(first.view)
    assert held
    store.commit({"vm/a": b""}, requires=[held])
    assert second.hold() is None


def test_the_lock_of_an_earlier_process_of_that_name_is_not_mine(
    store: FaultyStore, clock: ManualClock, candidates: tuple[Candidate, Candidate]
) -> None:
    first, _ = candidates
    assert first.hold()
    again = Candidate(store, "control-1", clock)
    assert again.hold() is None
    clock.time_s += TTL_S + 1
    assert again.hold()


@pytest.mark.parametrize("call", ["grant", "commit", "keep_alive", "get"])
@pytest.mark.parametrize("fault", ["request", "answer"])
def test_whatever_is_lost_once_one_of_them_leads_soon(
    store: FaultyStore, clock: ManualClock, candidates: tuple[Candidate, Candidate], call: str, fault: str
) -> None:
    store.faults[call] = fault
    held: set[str] = set()
    for _ in range(12):
        clock.time_s += TTL_S / 3
        for candidate in candidates:
            try:
                if requirement := candidate.hold():
                    store.commit({"vm/a": b""}, requires=[requirement])
                    held.add(candidate.owner)
            except (Temporary, Conflict):
                continue
    assert len(held) == 1


def test_a_heartbeat_is_there_as_long_as_it_beats(store: FaultyStore, clock: ManualClock) -> None:
    key = LeasedKey(store, Alive(host="h1", boot="1"), TTL_S, clock)
    key.beat()
    first = store.get("alive/h1")
    for _ in range(20):
        clock.time_s += key.renew_s
        key.beat()
    assert store.get("alive/h1") == first
    store.calls.clear()
    key.beat()
    assert store.calls == []
    clock.time_s += TTL_S + 1
    assert store.get("alive/h1") is None
    key.beat()
    assert store.get("alive/h1")


@pytest.mark.parametrize("call", ["grant", "commit", "keep_alive"])
@pytest.mark.parametrize("fault", ["request", "answer"])
def test_a_heartbeat_survives_one_lost_call(store: FaultyStore, clock: ManualClock, call: str, fault: str) -> None:
    store.faults[call] = fault
    key = LeasedKey(store, Alive(host="h1", boot="1"), TTL_S, clock)
    for _ in range(12):
        try:
            key.beat()
        except Temporary:
            continue
        assert store.get("alive/h1")
        clock.time_s += key.renew_s
    assert not store.faults


def test_a_put_that_its_dead_sender_gave_up_comes_too_late(clock: ManualClock) -> None:
    class SlowStore(MemoryStore):
        waiting: Callable[[], int] | None = None

        def commit(self, *args: Any, **kwargs: Any) -> int:
            if self.waiting is None:
                self.waiting = lambda: super(SlowStore, self).commit(*args, **kwargs)
                raise Temporary("it waits in a queue")
            return super().commit(*args, **kwargs)

    store = SlowStore(clock)
    dying, heir = (LeasedKey(store, Alive(host="h1", boot="1"), TTL_S, clock) for _ in range(2))
    with pytest.raises(Temporary):
        dying.beat()
    heir.beat()
    assert store.waiting
    with pytest.raises(Conflict):
        store.waiting()
    for _ in range(6):
        clock.time_s += heir.renew_s
        heir.beat()
        assert store.get("alive/h1"), "it is not bound to the dead one's lease"
