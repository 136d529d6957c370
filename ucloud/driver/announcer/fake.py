"""An announcer in memory, for tests and for hosts that only pretend."""

from collections.abc import Sequence

import msgspec


class World(msgspec.Struct):
    """What outlives a daemon. known: it was started, and not ended."""

    known: bool = False
    runs: bool = False


class FakeAnnouncer:
    def __init__(self, routers: Sequence[str] = (), world: World | None = None) -> None:
        self._routers, self.world = routers, world or World()

    def keep(self) -> bool:
        was_lost = self.world.known and not self.world.runs and bool(self._routers)
        self.world.known = self.world.runs = bool(self._routers)
        return was_lost

    def end(self) -> None:
        self.world.known = self.world.runs = False

    def die(self) -> None:
        """Somebody kills it."""
        self.world.runs = False
