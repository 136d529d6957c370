"""How many connections a guest may have, and open a second, so that none keeps the metadata service from the others. The packet
filter limits them too, earlier and cheaper; this holds where it does not. Used by `server.py`.

Guests are told apart by the address that they come from: one with several has that many shares.
"""

import time
from collections.abc import Callable, Hashable

OPEN = 16  # at once
PER_SECOND, BURST = 100, 200  # cloud-init reads some 50 values, one after the other
ADDRESSES = 16384


class Visitor:
    def __init__(self, now_s: float) -> None:
        self.open, self.left, self.seen_s = 0, float(BURST), now_s


class Visitors:
    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._visitors: dict[Hashable, Visitor] = {}

    def may_enter(self, address: Hashable) -> bool:
        """Whoever may, is inside until `leaves`."""
        now_s = self._now_s()
        visitor = self._visitors.get(address)
        if visitor is None:
            if len(self._visitors) >= ADDRESSES and not self._forget(now_s):
                return False
            visitor = self._visitors[address] = Visitor(now_s)
        visitor.left = min(BURST, visitor.left + PER_SECOND * (now_s - visitor.seen_s))
        visitor.seen_s = now_s
        if visitor.open >= OPEN or visitor.left < 1:
            return False
        visitor.open += 1
        visitor.left -= 1
        return True

    def leaves(self, address: Hashable) -> None:
        self._visitors[address].open -= 1

    def _forget(self, now_s: float) -> bool:
        """Those that nothing is to be remembered of. Answers whether there were any."""
        idle_s = now_s - BURST / PER_SECOND
        idle = [address for address, visitor in self._visitors.items() if not visitor.open and visitor.seen_s < idle_s]
        for address in idle:
            del self._visitors[address]
        return bool(idle)
