"""Time, as a thing that is handed in: the simulator hands in its own."""

import time
from datetime import UTC, datetime
from typing import Protocol

BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # elsewhere than on Linux the latter counts on


class Clock(Protocol):
    def now_s(self) -> float:
        """Seconds since 1970: for people and records. May jump."""

    def monotonic_s(self) -> float:
        """Seconds since some start: for deadlines and ages. Never jumps."""

    def boot_s(self) -> float:
        """Seconds since the machine booted, those in which it was suspended included. The same for all of its processes."""


class SystemClock:
    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def boot_s(self) -> float:
        return time.clock_gettime(BOOT)


def timestamp(now_s: float) -> str:
    """RFC 3339 in UTC with milliseconds, which sorts as text: 2026-11-22T14:51:31.042Z."""
    return datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> float:
    """Seconds since 1970 of what `timestamp` wrote. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
