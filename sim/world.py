"""The simulated world: virtual time, chance, and what happens next. One seed gives one history.

Everything that runs is an event with a time. Nothing runs in parallel: while one loop waits for the answer to a call,
`pass_time` runs the events of others inside that call, which is how loops meet in the middle of each other's steps.
"""

import heapq
import random
import re
from collections.abc import Callable, Collection

ID = re.compile(r"\b(vm|image|network)-[0-9a-hjkmnp-tv-z]{26}\b")
START_S = 1_800_000_000.0  # of virtual time, in seconds since 1970
MAX_DEPTH = 3  # calls that wait inside each other


class Violation(BaseException):
    """The simulator has found what must not be. Nothing in between may catch it, as web frameworks do with exceptions."""


class Killed(BaseException):
    """The process died here, in the middle of whatever it was doing."""


class Weather:
    """How much of each kind of fault a history gets: none of some and a lot of others meets more than a little of all.
    `calm`: kinds that it gets none of."""

    def __init__(self, chance: random.Random, calm: Collection[str] = ()) -> None:
        self.kills, self.waits, self.breakage = (chance.choice((0.0, 0.3, 1.0, 3.0)) for _ in range(3))
        self.losses, self.lags = (chance.choice((0.0, 1.0, 3.0, 8.0)) for _ in range(2))
        for kind in calm:
            if kind in vars(self):
                setattr(self, kind, 0.0)


class World:
    """`faulty`: whether calls may fail and processes may die. `lines`: the trace, kept only when `tracing`."""

    def __init__(self, seed: int, tracing: bool = False, calm: Collection[str] = ()) -> None:
        self.seed, self.chance = seed, random.Random(seed)
        self.weather = Weather(self.chance, calm)
        self.faulty = True
        self.tracing = tracing
        self.lines: list[str] = []
        self._aliases: dict[str, str] = {}
        self._now_s = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._depth = 0

    # The clock that production code is handed.

    def now_s(self) -> float:
        return START_S + self._now_s

    def monotonic_s(self) -> float:
        return self._now_s

    def boot_s(self) -> float:
        return self._now_s

    def say(self, who: str, what: str) -> None:
        if self.tracing:
            what = ID.sub(lambda id: self.alias(id[0]), what)
            self.lines.append(f"{self._now_s:9.3f}  {'  ' * self._depth}{who:<10} {what}")

    def alias(self, id: str) -> str:
        """Short enough to be told from others at a glance."""
        return self._aliases.setdefault(id, f"{id.split('-')[0]}#{len(self._aliases) + 1}")

    def after(self, pause_s: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self._now_s + pause_s, self._number, event))

    def run_for(self, s: float) -> None:
        until_s = self._now_s + s
        while self._queue and self._queue[0][0] <= until_s:
            due_s, _, event = heapq.heappop(self._queue)
            self._now_s = max(self._now_s, due_s)
            event()
        self._now_s = max(self._now_s, until_s)

    def pass_time(self, s: float) -> None:
        """Called from within an event: the world goes on while the caller waits."""
        if not self.can_pass_time():
            return
        self._depth += 1
        try:
            self.run_for(s)
        finally:
            self._depth -= 1

    def can_pass_time(self) -> bool:
        return self._depth < MAX_DEPTH

    def happens(self, probability: float) -> bool:
        return self.faulty and self.chance.random() < probability
