"""The loop of the host daemon that says that this host is alive."""

from ucloud.store.lease import LeasedKey


class Heartbeat:
    """Keeps `alive/<host>` there. A loop of its own, so that a slow look at the guests never delays it."""

    name = "heartbeat"

    def __init__(self, leased: LeasedKey, period_s: float) -> None:
        self._leased, self._period_s = leased, period_s

    def step(self) -> float:
        self._leased.beat()
        return self._period_s
