"""A process held by a descriptor (pidfd), so that its number may become another one's without harm. Used by the drivers whose
processes outlive the daemon: guests, dnsmasq, bird."""

import os
import select
import signal
import subprocess
import weakref
from collections.abc import Callable
from contextlib import suppress

from ucloud.base.errors import Temporary


class Held:
    """child: only where this process started it. Raises ProcessLookupError when there is no such process."""

    def __init__(self, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid, self._child = pid, child
        self._pidfd, self._is_reaped = os.pidfd_open(pid), False
        weakref.finalize(self, os.close, self._pidfd)

    def fileno(self) -> int:
        """Readable from the moment it has ended."""
        return self._pidfd

    def has_ended(self, wait_s: float = 0) -> bool:
        """Reaped or not."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        ended = bool(poll.poll(wait_s * 1000))
        if ended:
            self._reap()
        return ended

    def send(self, number: signal.Signals) -> None:
        """Harmless when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self, what: str, wait_s: float = 10.0) -> None:
        """When this returns nothing of it executes. what: it is, for people. Raises Temporary."""
        self.send(signal.SIGKILL)
        if not self.has_ended(wait_s):
            raise Temporary(f"{what}, process {self.pid}, does not die")

    def _reap(self) -> None:
        """Once: its number may be another child's afterwards. What another daemon started, its supervisor reaps."""
        if self._is_reaped:
            return
        self._is_reaped = True
        if self._child:
            self._child.poll()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


def held(pid: int, is_ours: Callable[[int], bool]) -> Held | None:
    """None unless it is ours now, when its number cannot become another one's any more."""
    with suppress(ProcessLookupError):
        process = Held(pid)
        if is_ours(pid):
            return process
    return None
