"""Events are kept, up to a bound; the oldest go first."""

from tests.unit.world import HandClock
from ucloud.model.event import Event
from ucloud.model.record import decode
from ucloud.store.journal import KEPT, TRIM_EVERY, Journal
from ucloud.store.memory import MemoryStore


def test_the_newest_events_are_kept() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    store.commit({"event/schedulers/1": b"{}"})
    journal = Journal(store, "scheduler", clock)
    for number in range(KEPT + 2 * TRIM_EVERY + 1):
        clock.pass_s(1.0)
        journal.say("vm/vm-a", f"it happened {number} times")
    texts = [decode(Event, item.value)[0].text for item in store.list("event/scheduler/").items]
    assert len(texts) == KEPT
    assert texts[-1] == f"it happened {KEPT + 2 * TRIM_EVERY} times"
    assert store.get("event/schedulers/1"), "those of others are left alone"


def test_what_is_no_text_can_be_said() -> None:
    store = MemoryStore(HandClock())
    journal = Journal(store, "scheduler", HandClock())
    journal.say("vm/\udcff", "left out: \x1b[1m")
    (item,) = store.list("event/").items
    assert rb"vm/\\udcff" in item.value
