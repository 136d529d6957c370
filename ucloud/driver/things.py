"""The contract of every set of things that a host has: networks, plugs, filters, services, … (`ucloud.model.wiring`).

Real ones are in overlay/, packetfilter/ and resolver/; `FakeThings` passes the same contract tests. Nothing is remembered that
cannot be found again by looking: what an earlier daemon added is in `actual` of the next one. Called by one thread at a time.
What the system refuses is Temporary with a message for people, and what of the call has been done by then stays.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Protocol, TypeVar

from ucloud.base.errors import Temporary
from ucloud.model.wiring import Thing

T = TypeVar("T", bound=Thing)


class Things(Protocol[T]):
    name: str  # of one of them, for people: "network", "filter"

    def actual(self) -> Mapping[str, T | None]:
        """All that is there, by key, as it is. None: something of it is there, but not all, or not as it should be."""

    def add(self, things: Sequence[T]) -> None:
        """Make them, or make what is there of them as they say. Several at once cost less than one by one. Safe to repeat."""

    def remove(self, keys: Sequence[str]) -> None:
        """Nothing is left of them. Safe to repeat, also for what was never there or is half gone."""


class FakeThings:
    """A set in memory. `world` is what outlives a daemon. The methods at the end are what a test does to the world."""

    def __init__(self, name: str, world: MutableMapping[str, Thing | None] | None = None) -> None:
        self.name = name
        self.world: MutableMapping[str, Thing | None] = {} if world is None else world
        self.before: Callable[[str], None] = lambda call: None  # called with add, remove or actual: may raise

    def actual(self) -> Mapping[str, Thing | None]:
        self.before("actual")
        return dict(self.world)

    def add(self, things: Sequence[Thing]) -> None:
        for thing in things:
            self.before("add")
            self.world[thing.key] = thing

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.before("remove")
            self.world.pop(key, None)

    def fail_next(self, call: str) -> None:
        def fail(called: str) -> None:
            if called == call:
                self.before = lambda _: None
                raise Temporary(f"{call} of a {self.name} failed")

        self.before = fail

    def damage(self, key: str) -> None:
        """Somebody takes a part of it away."""
        self.world[key] = None
