"""What ucloud needs of a hypervisor. Real: qemu (later bhyve, vmm); `fake` beside them passes the same contract tests.

A driver remembers nothing that it cannot find again by looking at what really runs: `actual` of a new driver object, made
after the daemon was killed, equals that of the old one. Calls for different VMs may come from different threads at once, calls
for one VM never do. Anything the world refuses is Temporary with a message for people.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from ucloud.model.guest import Guest, GuestDisk, GuestNic, GuestSpec, GuestState

__all__ = ["Console", "Guest", "GuestDisk", "GuestNic", "GuestSpec", "GuestState", "Hypervisor", "Log"]

LOG_BYTES = 1 << 20
MOST_NICS = 8  # of one guest


class Log(msgspec.Struct, frozen=True):
    """A piece of what the guests of a VM wrote to its serial line, boot after boot. start: how many bytes came before."""

    data: bytes
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Console(Protocol):
    """The keyboard of a guest: what it answers is in the log. Of each VM only one is open at a time."""

    def type(self, data: bytes) -> None:
        """Give this to the guest, on its serial line. Raises NotFound when it is gone; Temporary when it takes nothing: what
        it has not taken within a second is lost."""

    def close(self) -> None:
        """Harmless when repeated."""


class Hypervisor(Protocol):
    name: str
    accel: str  # "kvm", "tcg", "fake"

    def actual(self, vms: Collection[str] | None = None) -> Mapping[str, Guest]:
        """Every guest of this host, or those of these VMs, by VM id. A dead process is no guest, even before somebody
        reaped it."""

    def traces(self) -> frozenset[str]:
        """Ids of all VMs of which this driver still has anything: a guest, a log, a socket, a control group."""

    def start(self, spec: GuestSpec) -> None:
        """Bring up this guest and return when it executes. Starting what runs already is Conflict. After a failure
        nothing runs. Whether it is leased is known to `deadman` from before its process exists; NotYet while another guest, of
        another host perhaps, has one of its disks."""

    def attach(self, vm: str, nic: GuestNic) -> None:
        """Give a running guest one more network interface. Harmless when it has one with this MAC; one that is cut is replaced.
        Raises Conflict when there is no guest, or when it has as many as it can have."""

    def detach(self, vm: str, mac: str) -> None:
        """Take a network interface away from a guest, and return when it has let go. Temporary when it does not (no operating
        system, still booting): it is cut, ask again. Harmless when it has none with this MAC, or when there is no guest."""

    def guard(self, vm: str) -> None:
        """Make a running guest leased, for good. Harmless when it is, or when there is none."""

    def resume(self, vm: str) -> None:
        """Let a guest go on that stands still for want of space; where there still is none it stops again. Harmless when it
        runs, or when there is none."""

    def power_down(self, vm: str) -> None:
        """Ask the guest to shut down (ACPI power button). Harmless when repeated or when there is no guest."""

    def kill(self, vm: str) -> None:
        """End the guest at once; when this returns nothing of it executes. Its log stays. Harmless when repeated."""

    def forget(self, vm: str) -> None:
        """Remove every trace of a VM whose guest is gone. Harmless when repeated."""

    def log(self, vm: str, after: int = 0, limit: int = LOG_BYTES) -> Log:
        """The serial log, also of a guest that is gone, until it is forgotten: at most `limit` bytes from byte `after` on, or
        from the oldest that is left; after < 0: so many before the end. One who reads on from `end` again and again misses
        nothing that is not gone already. A log that was begun anew is read from its beginning. Raises NotFound."""

    def console(self, vm: str) -> Console:
        """Raises NotFound when the VM has no guest."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, when `actual` may have changed by itself (a guest died or powered off)."""

    def trim(self) -> None:
        """Periodic care, called every few seconds: keeps logs within their bound."""

    def close(self) -> None:
        """Let go of the guests; they go on."""
