"""What ucloud needs of a hypervisor. Real: qemu (later bhyve, vmm); `fake` beside them passes the same contract tests.

A driver remembers nothing that it cannot find again by looking at what really runs: `actual` of a new driver object, made
after the daemon was killed, equals that of the old one. Calls for different VMs may come from different threads at once, calls
for one VM never do. Anything the world refuses is Temporary with a message for people.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from ucloud.model.guest import Guest, GuestDisk, GuestSpec, GuestState

__all__ = ["Guest", "GuestDisk", "GuestSpec", "GuestState", "Hypervisor", "Log"]


class Log(msgspec.Struct, frozen=True):
    """What the guest wrote to its serial line: the newest part, `truncated` when older parts are gone."""

    data: bytes
    truncated: bool = False


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
        nothing runs."""

    def power_down(self, vm: str) -> None:
        """Ask the guest to shut down (ACPI power button). Harmless when repeated or when there is no guest."""

    def kill(self, vm: str) -> None:
        """End the guest at once; when this returns nothing of it executes. Its log stays. Harmless when repeated."""

    def forget(self, vm: str) -> None:
        """Remove every trace of a VM whose guest is gone. Harmless when repeated."""

    def log(self, vm: str) -> Log:
        """The serial log, also of a guest that is gone, until it is forgotten. Raises NotFound."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, when `actual` may have changed by itself (a guest died or powered off)."""

    def trim(self) -> None:
        """Periodic care, called every few seconds: keeps logs within their bound."""

    def close(self) -> None:
        """Let go of the guests; they go on."""
