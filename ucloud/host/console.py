"""Who looks at the serial lines of this host's guests, and who may type. Called by viewer.py, from a thread for each viewer.

Every viewer reads the log by itself, so a slow one holds up nobody. One of them types: who came first, or took over; when it
leaves, the next one that types.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ucloud.base.errors import Forbidden, NotFound, Temporary
from ucloud.driver.hypervisor.contract import Console, Guest, Hypervisor

MAX_VIEWERS = 64
MAX_VIEWERS_OF_VM = 32
LOOK_S = 1.0


class Seat:
    """One viewer at one line."""

    def __init__(self, line: "Line", read_only: bool) -> None:
        self.line, self.read_only = line, read_only

    @property
    def may_type(self) -> bool:
        return self.line.writer is self

    def take(self) -> None:
        self.line.take(self)

    def type(self, data: bytes) -> None:
        """Raises Forbidden to one that only looks on, NotFound without a guest, Temporary when the guest takes nothing."""
        self.line.type(self, data)


class Line:
    """The serial line of one VM, while somebody looks at it. typed_s: when somebody typed last."""

    def __init__(self, hypervisor: Hypervisor, vm: str) -> None:
        self.vm, self.typed_s = vm, float("-inf")
        self.seats: set[Seat] = set()
        self.writer: Seat | None = None
        self._hypervisor = hypervisor
        self._typing = threading.Lock()
        self._console: Console | None = None

    def join(self, seat: Seat, take: bool) -> None:
        self.seats.add(seat)
        if take or self.writer is None:
            self.take(seat)

    def leave(self, seat: Seat) -> None:
        with self._typing:
            self.seats.discard(seat)
            if self.writer is seat:
                self.writer = None
                self._hang_up()

    def take(self, seat: Seat) -> None:
        if not seat.read_only:
            self.writer = seat

    def type(self, seat: Seat, data: bytes) -> None:
        with self._typing:
            if self.writer is None:
                self.take(seat)
            if self.writer is not seat:
                raise Forbidden("you only look on" if seat.read_only else "somebody else is typing")
            self.typed_s = time.monotonic()
            try:
                self._connected().type(data)
            except NotFound:  # it was started again, perhaps
                self._hang_up()
                self._connected().type(data)

    def _connected(self) -> Console:
        if self._console is None:
            self._console = self._hypervisor.console(self.vm)
        return self._console

    def _hang_up(self) -> None:
        if self._console:
            self._console.close()
            self._console = None


class Lines:
    """All lines of this host that somebody looks at, and what their guests do."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._lines: dict[str, Line] = {}
        self._guests: dict[str, Guest] = {}
        self._looked_s = float("-inf")

    @contextmanager
    def seat(self, vm: str, read_only: bool, take: bool) -> Iterator[Seat]:
        """Raises Temporary when all are taken."""
        with self._lock:
            if sum(len(line.seats) for line in self._lines.values()) >= MAX_VIEWERS:
                raise Temporary("too many consoles are open on this host")
            line = self._lines.setdefault(vm, Line(self._hypervisor, vm))
            if len(line.seats) >= MAX_VIEWERS_OF_VM:
                raise Temporary("too many consoles of this VM are open")
            seat = Seat(line, read_only)
            line.join(seat, take)
        try:
            yield seat
        finally:
            line.leave(seat)
            with self._lock:
                if not line.seats and self._lines.get(vm) is line:
                    del self._lines[vm]

    def guest(self, vm: str) -> Guest | None:
        """As it was a second or two ago. One look serves all viewers; only for the first they wait."""
        is_old = time.monotonic() - self._looked_s > LOOK_S
        if is_old and self._looking.acquire(blocking=self._looked_s < 0):
            try:
                with suppress(Temporary):
                    self._guests = dict(self._hypervisor.actual())
                self._looked_s = time.monotonic()
            finally:
                self._looking.release()
        return self._guests.get(vm)
