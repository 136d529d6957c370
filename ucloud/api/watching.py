"""The API's view, shared by all request threads: lists are read from it, and requests with `?wait=` wait on it. Events have
a view of their own of the same kind.

Its thread runs this loop; `api/server.py` starts and stops it.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ucloud import loop
from ucloud.base.clock import Clock
from ucloud.base.errors import Temporary
from ucloud.model.key import HostBlob
from ucloud.store.contract import Store
from ucloud.store.view import View

log = logging.getLogger("ucloud.api.watching")

PREFIXES = (
    *("vm/", "placement/", "manifest/", "status/", "alive/", "fence/", "cluster/", "host/"),
    *("image/", "imagestate/", "unique/image/", "pool/", "network/", "unique/network/"),
    *("key/", "unique/key/", "project/"),
)
MAX_AGE_S = 30.0  # the store gives a sign of life every 10 s or less; lists from an older view are refused
PERIOD_S = 10.0


class SharedView:
    name = "view"

    def __init__(self, store: Store, clock: Clock, prefixes: Sequence[str] = PREFIXES) -> None:
        self._woken, self._stop = threading.Event(), threading.Event()
        self._view = View(store, prefixes, clock, self._woken.set, without=(HostBlob,))  # user data may be large
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def age_s(self) -> float:
        return self._view.age_s

    @property
    def is_ending(self) -> bool:
        """The server stops."""
        return self._stop.is_set()

    def step(self) -> float:
        with self._changed:
            self._view.refresh()
            self._changed.notify_all()
        return PERIOD_S

    @contextmanager
    def reading(self) -> Iterator[View]:
        """The view, which stands still meanwhile. Raises Temporary when it is too old to be shown."""
        with self._changed:
            if self.age_s > MAX_AGE_S:
                raise Temporary("the store has not answered for a while, so lists are not available", retry_s=2)
            yield self._view

    def wait_until(self, holds: Callable[[View], bool], timeout_s: float) -> bool:
        """False when time is up, or when the server stops first."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or holds(self._view), timeout_s)
            return not self._stop.is_set() and holds(self._view)

    @property
    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def pause(self, pause_s: float) -> None:
        self._stop.wait(pause_s)

    def start(self, on_bug: Callable[[], None]) -> None:
        """`on_bug` is called when the loop ended by an error that nobody expected; the process should then end."""

        def body() -> None:
            try:
                loop.run(self, self._woken, self._stop)
            except Exception:
                log.exception("the view's loop ended")
                on_bug()

        self._thread = threading.Thread(target=body, name=self.name, daemon=True)
        self._thread.start()

    def open(self, on_bug: Callable[[], None]) -> None:
        """Start, unless that has happened, and know everything. Raises Temporary."""
        with self._changed:
            if self._thread is None:
                self._view.refresh()
                self.start(on_bug)

    def end_waits(self) -> None:
        """The server stops: whoever waits answers with what it has."""
        self._stop.set()
        self._woken.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        self.end_waits()
        if self._thread:
            self._thread.join(timeout=5)
        self._view.close()
