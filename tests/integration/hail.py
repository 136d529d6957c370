"""Faults by chance, for `rounds`: whatever may happen to a cloud happens, and is undone after a while."""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence

from tests.integration.clouds import Fault

LENGTHS_S = (0.0, 0.5, 2.0, 5.0, 9.0)  # the last one is long enough for a host to count as down
WITHOUT_QUORUM, WITHOUT_QUORUM_S = 0.1, 3.0  # how likely it is that a second member of etcd fails, and for how long


class Hail:
    """Of etcd a majority lives, but for short spells without one."""

    def __init__(self, faults: Sequence[Fault], seed: str, say: Callable[[str], None]) -> None:
        self._faults, self._say = faults, say
        self._chance = random.Random(seed)
        self._hurt: set[str] = set()
        self._due: list[tuple[float, int, Fault]] = []  # when it ends
        self._number = itertools.count()

    def fall(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            self._end_until(time.monotonic())
            self._strike()
            time.sleep(self._chance.uniform(0.1, 1.0))
        self.end()

    def end(self) -> None:
        """Whatever was hurt is healed."""
        self._end_until(float("inf"))

    def _strike(self) -> None:
        spare_etcd = self._chance.random() >= WITHOUT_QUORUM
        possible = [fault for fault in self._faults if self._may_fall(fault, spare_etcd)]
        if not possible:
            return
        if self._chance.random() < 0.5:  # where much must be whole before a fault may fall, it seldom may
            most = max(len(fault.hurts) for fault in possible)
            possible = [fault for fault in possible if len(fault.hurts) == most]
        kind = self._chance.choice(sorted({fault.kind for fault in possible}))
        fault = self._chance.choice([fault for fault in possible if fault.kind == kind])
        for_s = self._chance.choice(LENGTHS_S)
        if fault.members and self._members_hurt():
            for_s = min(for_s, WITHOUT_QUORUM_S)
        self._say(f"{fault.what} {fault.target}, for {for_s:g} s" if fault.hurts else f"{fault.what} {fault.target}")
        self._hurt |= fault.hurts
        heapq.heappush(self._due, (time.monotonic() + for_s, next(self._number), fault))  # first: it may fail half-way
        fault.begin()

    def _may_fall(self, fault: Fault, spare_etcd: bool) -> bool:
        """An API that stands still keeps its clients waiting, as no one else will take their request."""
        members = len(fault.members | self._members_hurt())
        is_hurt = bool((fault.hurts | {fault.target}) & self._hurt)
        return not is_hurt and (not fault.members or members <= (1 if spare_etcd else 2))

    def _members_hurt(self) -> set[str]:
        return {name for name in self._hurt if name.startswith("etcd-")}

    def _end_until(self, now_s: float) -> None:
        while self._due and self._due[0][0] <= now_s:
            _, _, fault = heapq.heappop(self._due)
            if fault.hurts:
                self._say(f"{fault.what} {fault.target} is over")
            fault.end()
            self._hurt -= fault.hurts
