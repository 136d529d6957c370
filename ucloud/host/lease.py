"""The loop of the `lease` daemon: it alone says that this host is alive, and until when its guests may count on that.

Tiny, so that nothing but etcd's silence makes it late: it looks at no guest. The host daemon may be gone for minutes
meanwhile; then it says so, too.
"""

import logging
from typing import Protocol

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, Invalid, Temporary
from ucloud.model.host import Alive
from ucloud.store.lease import LeasedKey

log = logging.getLogger("ucloud.host.lease")

AGAIN_S = 0.1  # after an attempt that failed at every member of etcd
DEGRADED_S = 10.0  # without a look of the host daemon


class Timing(msgspec.Struct, frozen=True):
    """All in seconds. renew_s: between two renewals. attempt_s: how long one member of etcd may take to answer. hold_s: for how
    long after the sending of a renewal guests may live. doc/fencing.md explains the numbers."""

    renew_s: float
    attempt_s: float
    hold_s: float


class Instant(Protocol):
    """See `ucloud.host.moment.Moment`."""

    def set(self, at_s: float) -> None: ...

    def get(self) -> float | None: ...


def timing(ttl_s: float, election_s: float) -> Timing:
    """election_s: etcd's election timeout; an election takes up to twice that. Raises Invalid where two elections in a row
    would cost a host its lease."""
    found = Timing(renew_s=min(0.5, ttl_s / 4), attempt_s=ttl_s / 8, hold_s=0.85 * ttl_s)
    needed_s = found.renew_s + 2 * 2 * election_s
    if needed_s > found.hold_s + 1e-9:
        raise Invalid(
            f"[host] ttl_s = {ttl_s:g} is too short for [etcd] election_ms = {1000 * election_s:.0f}: two elections of etcd "
            f"would kill guests. Make it {needed_s / 0.85:.1f} or more, or etcd's --election-timeout shorter"
        )
    return found


class Lease:
    """deadline: until when this host holds its lease, on the boot clock, counted from before a renewal was sent. beat: when the
    host daemon looked last."""

    name = "lease"

    def __init__(self, leased: LeasedKey[Alive], deadline: Instant, beat: Instant, clock: Clock, timing: Timing) -> None:
        self._leased, self._deadline, self._beat = leased, deadline, beat
        self._clock, self._timing = clock, timing
        self._started_s = clock.boot_s()
        self._failed = ""  # why the last renewal failed, said once

    def step(self) -> float:
        now_s = self._clock.boot_s()
        degraded = now_s - max(self._beat.get() or 0.0, self._started_s) > DEGRADED_S
        if degraded != self._leased.record.degraded:
            log.warning("the host daemon %s", f"was not heard for {DEGRADED_S:g} s" if degraded else "is heard again")
            self._leased.put(msgspec.structs.replace(self._leased.record, degraded=degraded))
        try:
            if not self._leased.beat():
                return AGAIN_S
        except (Conflict, Temporary) as error:
            if error.message != self._failed:
                log.info("not renewed: %s", error.message)
            self._failed = error.message
            return AGAIN_S
        self._failed = ""
        self._deadline.set(self._leased.renewed_s + self._timing.hold_s)
        return max(AGAIN_S, self._leased.renewed_s + self._timing.renew_s - self._clock.boot_s())
