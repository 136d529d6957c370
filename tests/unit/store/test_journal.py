"""Events gather and are written together; the newest are kept; what the store does not take holds up nobody."""

import pytest

from tests.unit.world import FaultyStore, HandClock
from ucloud.base.errors import Temporary
from ucloud.model.event import Event, News
from ucloud.model.record import decode
from ucloud.store.contract import MAX_OPERATIONS
from ucloud.store.journal import IDLE_S, PERIOD_S, Journal

KEPT = 300


class Case:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = FaultyStore(self.clock)
        self.wakes = 0
        self.journal = self.another()

    def another(self) -> Journal:
        return Journal(self.store, "scheduler", self.clock, KEPT, self._woken)

    def _woken(self) -> None:
        self.wakes += 1

    def say(self, *reasons: object) -> None:
        for reason in reasons:
            self.journal.say(News("placed", str(reason)), "placement/vm-a", "web")

    def step(self) -> float:
        """When it is due."""
        self.clock.pass_s(self.journal.step())
        return self.journal.step()

    def events(self) -> list[Event]:
        return [decode(Event, item.value)[0] for item in self.store.list("event/scheduler/").items]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events()]


@pytest.fixture
def case() -> Case:
    return Case()


def test_what_gathers_is_one_transaction(case: Case) -> None:
    assert case.journal.step() == IDLE_S
    case.say("one", "two")
    assert case.wakes == 1, "only the first one wakes"
    assert case.journal.step() == PERIOD_S, "others may follow soon"
    case.say("three")
    case.step()
    assert [len(keys) for keys in case.store.commits] == [3]
    assert case.reasons() == ["one", "two", "three"]
    assert (case.events()[0].verb, case.events()[0].about, case.events()[0].name) == ("placed", "vm/vm-a", "web")
    assert case.journal.step() == IDLE_S


def test_the_newest_are_kept_also_those_of_earlier_processes(case: Case) -> None:
    case.store.commit({"event/schedulers/1": b"{}", "event/scheduler/0": b"not even an event"})
    for number in range(KEPT):
        case.say(number)
    while case.step() != IDLE_S:
        pass
    case.journal = case.another()
    case.say("new", "newer")
    while case.step() != IDLE_S:
        pass
    assert case.reasons() == [str(number) for number in range(2, KEPT)] + ["new", "newer"]
    assert case.store.get("event/schedulers/1"), "those of others are left alone"


def test_a_storm_is_written_and_trimmed_at_once_and_never_grows_without_end(case: Case) -> None:
    for _ in range(20):
        case.say(*range(MAX_OPERATIONS))
        case.step()
        assert len(case.events()) <= KEPT + MAX_OPERATIONS
    assert all(len(keys) <= MAX_OPERATIONS for keys in case.store.commits)
    assert case.reasons()[-1] == str(MAX_OPERATIONS - 1) or case.step() != IDLE_S


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_an_answer_that_is_lost_loses_and_doubles_nothing(case: Case, lost: str) -> None:
    case.say("one", "two")
    case.store.lose = lost
    case.step()
    case.say("three")
    case.step()
    assert case.reasons() == ["one", "two", "three"]


def test_a_store_that_is_away_costs_the_oldest(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise Temporary("full", retry_s=5.0)

    with monkeypatch.context() as patch:
        patch.setattr(case.store, "commit", refuse)
        case.say(*range(2 * KEPT))
        assert case.step() > 5.0
    while case.step() != IDLE_S:
        pass
    assert case.reasons() == [str(number) for number in range(KEPT, 2 * KEPT)]


def test_a_clock_that_is_set_back_does_not_change_their_order(case: Case) -> None:
    case.say("first")
    case.clock.time_s -= 0.5
    case.say("second")
    case.clock.pass_s(2.0)
    case.journal.step()
    assert case.reasons() == ["first", "second"]


def test_what_a_clock_told_that_was_wrong_for_a_while_goes_like_all_else(case: Case) -> None:
    case.clock.time_s += 1e9
    case.say("of the future")
    case.step()
    case.clock.time_s -= 1e9
    case.journal = case.another()
    case.say(*range(KEPT - 1))
    while case.step() != IDLE_S:
        pass
    case.journal = case.another()
    case.say("newest")
    while case.step() != IDLE_S:
        pass
    assert case.reasons() == [*(str(number) for number in range(KEPT - 1)), "newest"]


def test_what_is_no_text_can_be_said(case: Case) -> None:
    case.journal.say(News("unreadable", "left out: \x1b[1m\udcff"), "vm/\udcff")
    case.step()
    (event,) = case.events()
    assert (event.about, event.reason) == ("vm/", "left out: [1m")
