"""The loop that kills guests when this host's lease has run out: from then on others may take the host for dead.

It runs in `deadman` and, in a thread of its own, in `lease`: a guest must outlive both. It needs no network, and trusts
nobody: what it cannot read counts as over.
"""

import logging
from collections.abc import Callable

from ucloud.base.clock import Clock
from ucloud.host.lease import Instant

log = logging.getLogger("ucloud.host.deadman")

LOOK_S = 0.1  # a sleep does not notice that the machine was suspended, the boot clock does


class Deadman:
    """kill: ends every guest that must not outlive the lease, those too that just begin, and answers which VMs' it found."""

    name = "deadman"

    def __init__(self, deadline: Instant, kill: Callable[[], frozenset[str]], clock: Clock) -> None:
        self._deadline, self._kill, self._clock = deadline, kill, clock

    def step(self) -> float:
        until_s = self._deadline.get()
        left_s = 0.0 if until_s is None else until_s - self._clock.boot_s()
        if left_s > 0:
            return min(left_s, LOOK_S)
        if killed := self._kill():
            log.warning("this host has lost its lease: killed the guests of %s", ", ".join(sorted(killed)))
        return LOOK_S
