"""What the request handlers work with. The daemon makes one `Services` per worker process and hands it to `create_app`."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpx
from flask import current_app

from ucloud.api.watching import SharedView
from ucloud.base import config
from ucloud.base.clock import Clock, SystemClock, timestamp
from ucloud.base.errors import Temporary
from ucloud.driver.pool.contract import Pool as PoolDriver
from ucloud.model.event import Event
from ucloud.model.image import Pool
from ucloud.store.contract import Store

MAX_WAITS = 40  # all these hold a thread each, of which the server has some more, so that short requests always find one
MAX_UPLOADS = 8
MAX_WATCHERS = 12
MAX_LOGS = 8  # a host that stands still keeps each of them waiting
MAX_FOLLOWERS = 16
MAX_CONSOLES = 32
MAX_LONG = MAX_WAITS + MAX_UPLOADS + MAX_WATCHERS + MAX_LOGS + MAX_FOLLOWERS + MAX_CONSOLES


class Places:
    """A limited number of places for requests that hold a thread for long; `taken` of the `number` are taken now."""

    def __init__(self, number: int, what: str) -> None:
        self.taken = 0
        self.number, self._full = number, f"too many {what} at the moment; try again"
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Raises Temporary when none is free."""
        with self._lock:
            if self.taken == self.number:
                raise Temporary(self._full, retry_s=2)
            self.taken += 1
        try:
            yield
        finally:
            with self._lock:
                self.taken -= 1


def host_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Keeps no cookies: a host that was taken over could fill the memory with them."""
    none = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.Client(trust_env=False, timeout=httpx.Timeout(5.0), follow_redirects=False, cookies=none, transport=transport)


@dataclass(frozen=True)
class Services:
    """pools: the driver for a pool's record. network: of what networks are made. cloud: of which hosts that join are
    told what all have in common. url: where other machines reach this API, "": nowhere. hosts: the HTTP client that asks host
    daemons.
    on_bug: called when the thread of a view has ended by an error that nobody expected; by default this process ends, and
    another one takes its place."""

    store: Store
    view: SharedView
    pools: Callable[[Pool], PoolDriver]
    clock: Clock = field(default_factory=SystemClock)
    network: config.Network = config.DEFAULTS.network
    cloud: config.Config = config.DEFAULTS
    url: str = ""
    hosts: httpx.Client = field(default_factory=host_client)
    waits: Places = field(default_factory=lambda: Places(MAX_WAITS, "requests are waiting"))
    uploads: Places = field(default_factory=lambda: Places(MAX_UPLOADS, "uploads are running"))
    watchers: Places = field(default_factory=lambda: Places(MAX_WATCHERS, "clients follow the events"))
    logs: Places = field(default_factory=lambda: Places(MAX_LOGS, "logs are being fetched"))
    followers: Places = field(default_factory=lambda: Places(MAX_FOLLOWERS, "logs are being followed"))
    consoles: Places = field(default_factory=lambda: Places(MAX_CONSOLES, "consoles are open"))
    on_bug: Callable[[], None] = lambda: os._exit(1)
    _events: SharedView = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_events", SharedView(self.store, self.clock, (Event.prefix,)))

    @property
    def events(self) -> SharedView:
        """A view of events alone, opened when somebody first asks for it: nobody pays for what nobody looks at. Raises
        Temporary."""
        self._events.open(self.on_bug)
        return self._events

    def now(self) -> str:
        return timestamp(self.clock.now_s())

    def end_waits(self) -> None:
        """The server stops: whoever waits answers with what it has."""
        self.view.end_waits()
        self._events.end_waits()

    def close(self) -> None:
        self.view.close()
        self._events.close()
        self.hosts.close()
        self.store.close()


def services() -> Services:
    """Those of the application that handles the current request."""
    return cast(Services, current_app.extensions["ucloud"])
