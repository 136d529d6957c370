"""The contract of announcers: they tell the routers outside which VMs of public networks are on this host.

The host daemon calls `keep` at its start and every few seconds. What is announced follows from the host's routes alone, which
driver/overlay makes and removes, so nobody tells an announcer of a VM. It goes on without the daemon, and is found again.
`FakeAnnouncer` passes the same contract tests as the real one. Called by one thread at a time.
"""

from typing import Protocol


class Announcer(Protocol):
    def keep(self) -> bool:
        """It runs, with the settings that it was made with; or not at all, where there are no routers. Answers whether it was
        gone, though it was started before. Raises Temporary when it cannot be started."""

    def end(self) -> None:
        """It runs no more, and nothing of it is left: routers forget this host's VMs. Safe to repeat."""
