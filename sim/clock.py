"""The clocks of one machine: seconds since 1970 may be hours off and jump; the monotonic clock only drifts."""

from sim.world import World

DRIFTS = (1.0, 1.0, 1.0005, 0.9995, 1.01, 0.99)
JUMPS_S = (0.0, 0.0, -3600.0, 3600.0, -30.0, 4.0, 10_000.0)


class Instant:
    """A `ucloud.host.moment.Moment` in memory."""

    def __init__(self) -> None:
        self._at_s: float | None = None

    def set(self, at_s: float) -> None:
        self._at_s = at_s

    def get(self) -> float | None:
        return self._at_s


class NodeClock:
    """A `ucloud.base.clock.Clock`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._drift = world.chance.choice(DRIFTS)
        self._start_s = world.chance.choice((0.0, 100_000.0))
        self._ahead_s = world.chance.choice(JUMPS_S)

    def now_s(self) -> float:
        return self._world.now_s() + self._ahead_s

    def monotonic_s(self) -> float:
        return self._start_s + self._drift * self._world.monotonic_s()

    def boot_s(self) -> float:
        return self.monotonic_s()

    def jump(self) -> float:
        """How many seconds ahead of true time it is from now on."""
        self._ahead_s = self._world.chance.choice(JUMPS_S)
        return self._ahead_s
