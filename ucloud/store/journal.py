"""A loop's events: said once, kept for a while. Events are for people: nothing rests on them, and a lost one is only logged."""

import logging

from ucloud.base.clock import Clock, timestamp
from ucloud.base.errors import Temporary
from ucloud.base.ids import ulid
from ucloud.base.text import visible
from ucloud.model.event import Event
from ucloud.model.record import encode
from ucloud.store.contract import Store

log = logging.getLogger("ucloud.event")

KEPT = 500  # of one writer
TRIM_EVERY = 50


class Journal:
    """Single-threaded: belongs to one loop. `writer` names it: a loop of the control daemon, or a host's id."""

    def __init__(self, store: Store, writer: str, clock: Clock) -> None:
        self._store, self._writer, self._clock = store, writer, clock
        self._said = 0

    def say(self, about: str, text: str) -> None:
        now_s = self._clock.now_s()
        event = Event(id=ulid(now_s), writer=self._writer, when=timestamp(now_s), about=visible(about), text=visible(text))
        log.info("%s: %s", about, text)
        try:
            self._store.commit({event.key: encode(event)})
            if self._said % TRIM_EVERY == 0:
                self._trim()
            self._said += 1
        except Temporary as error:
            log.warning("the event about %s is lost: %s", about, error.message)

    def _trim(self) -> None:
        """Remove all but the newest: ids sort by time."""
        keys = [item.key for item in self._store.list(Event.at(self._writer, "")).items]
        for start in range(0, len(keys) - KEPT, 100):
            self._store.commit(deletes=keys[start : min(start + 100, len(keys) - KEPT)])
