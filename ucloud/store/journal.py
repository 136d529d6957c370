"""A writer's events: said at any moment, written once a second, kept for a while.

Events are for people, so they cost little and hold up nothing: whoever says one only puts it into a buffer; a loop of its own
(`ucloud.loop.run`) writes what has gathered, in one transaction. They are lost if the process dies first, and the oldest of
them if the store takes none for long.
"""

import itertools
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Container, Sequence

from ucloud.base.clock import Clock, timestamp
from ucloud.base.errors import Temporary
from ucloud.base.ids import ulid
from ucloud.base.text import one_line
from ucloud.model.event import Event, News, subject
from ucloud.model.record import encode
from ucloud.store.contract import MAX_OPERATIONS, Store

log = logging.getLogger("ucloud.event")

PERIOD_S = 1.0  # between two transactions
SHORTEST_S = 0.01  # a pause so short that no clock shows it would never end
IDLE_S = 3600.0
KEPT_OF_LOOP, KEPT_OF_HOST = 1000, 200
COUNTER_BITS = 40


class Journal:
    """`say` may be called by any thread, `step` by one. kept: how many events of this writer stay in the store, and how
    many wait to be written at most. wake: makes `step` be called soon. random_bits: handed in by the simulator."""

    name = "journal"

    def __init__(
        self,
        store: Store,
        writer: str,
        clock: Clock,
        kept: int,
        wake: Callable[[], None] = lambda: None,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._store, self._writer, self._clock, self._kept, self._wake = store, writer, clock, kept, wake
        self._lock = threading.Lock()  # of what follows
        self._waiting: deque[Event] = deque(maxlen=kept)
        self._due_s = 0.0  # when to write what waits
        self._last_s = 0.0  # the time of the newest event: its own clock may be set back
        self._chance = random_bits(80 - COUNTER_BITS) << COUNTER_BITS
        self._numbers = itertools.count()
        self._written: deque[str] | None = None  # keys, oldest first; None: to be read
        self._unread = 0  # written since they were read: another process may write for the same writer now and then

    def say(self, news: News, about: str, name: str = "") -> None:
        """about: the key of any record of it. name: what people call it."""
        with self._lock:
            self._last_s = max(self._last_s, self._clock.now_s())
            event = Event(
                id=ulid(self._last_s, lambda bits: self._chance | next(self._numbers)),
                writer=self._writer,
                time=timestamp(self._clock.now_s()),
                verb=news.verb,
                about=one_line(subject(about)),
                name=one_line(name),
                reason=one_line(news.reason),
            )
            is_first = not self._waiting
            self._waiting.append(event)
            if is_first:
                self._due_s = max(self._due_s, self._clock.monotonic_s() + PERIOD_S)
        if is_first:
            self._wake()

    def step(self) -> float:
        """Never raises Temporary: what could not be written waits for the next time."""
        with self._lock:
            wait_s = self._due_s - self._clock.monotonic_s()
            events = list(self._waiting)
        if not (events or self._excess()):
            return IDLE_S
        if wait_s > 0:
            return max(wait_s, SHORTEST_S)
        try:
            self._write(events)
            pause_s = PERIOD_S
        except Temporary as error:
            self._written = None  # an answer lost is not a no: read again
            pause_s = PERIOD_S + error.retry_s
            log.debug("events of %s wait: %s", self._writer, error.message)
        with self._lock:
            self._due_s = self._clock.monotonic_s() + pause_s
        return pause_s

    def _write(self, events: Sequence[Event]) -> None:
        """As many as fit beside what is removed, which is half of the transaction at most: so both go on whatever happens."""
        if self._written is None or self._unread > self._kept:
            self._written, self._unread = self._read({event.key for event in events}), 0
        old = list(itertools.islice(self._written, min(self._excess(), MAX_OPERATIONS // 2)))
        events = events[: MAX_OPERATIONS - len(old)]
        self._store.commit({event.key: encode(event) for event in events}, old)
        for _ in old:
            self._written.popleft()
        self._written.extend(event.key for event in events)
        self._unread += len(events)
        with self._lock:
            while events and self._waiting and self._waiting[0].id <= events[-1].id:
                self._waiting.popleft()

    def _read(self, waiting: Container[str]) -> deque[str]:
        """What stands there already, but for what is written again after an answer that was lost. In the order in which it was
        written: ids that a clock gave while it was wrong would stay for ever, at the cost of newer ones."""
        items = sorted(self._store.list(Event.at(self._writer, "")).items, key=lambda item: item.mod_revision)
        return deque(item.key for item in items if item.key not in waiting)

    def _excess(self) -> int:
        return max(0, len(self._written or ()) - self._kept)
