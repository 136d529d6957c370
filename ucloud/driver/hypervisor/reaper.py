"""What ends the guests that must not outlive their host's lease, without the hypervisor driver, the host daemon or anything
else that may hang: called by `deadman` and `lease` (ucloud/host/deadman.py), again and again while there is no lease.

A guest is one of the driver's on the same run_dir; it is spared only where the driver has put `spared` beside its sockets
before it began. Not one call here waits: what does not die at once is found again.
"""

import os
import signal
from pathlib import Path

import msgspec

from ucloud.driver.hypervisor import cgroup, qemu_process
from ucloud.driver.hypervisor.fake import GuestDirectory

SPARED = "spared"
LEASE_LOST = b"killed: the lease has run out\n"  # in the log of a pretended guest


class QemuReaper:
    def __init__(self, run_dir: Path) -> None:
        self._vms = run_dir.resolve() / "vm"
        self._groups = cgroup.of_guests(run_dir)

    def kill(self) -> frozenset[str]:
        """VMs of which something executed that must not: all of it is sent SIGKILL."""
        killed = {vm for vm in self._groups.guests() if not self._is_spared(vm) and self._groups.send_kill(vm)}
        if self._vms.is_dir():  # some systems have no control groups
            for guest in qemu_process.find(self._vms):
                if not self._is_spared(guest.who.vm) and not guest.has_ended():
                    guest.send(signal.SIGKILL)
                    killed.add(guest.who.vm)
        return frozenset(killed)

    def _is_spared(self, vm: str) -> bool:
        return os.path.exists(self._vms / vm / SPARED)


class FakeReaper:
    def __init__(self, run_dir: Path) -> None:
        self._machine = GuestDirectory(run_dir / "fake")

    def kill(self) -> frozenset[str]:
        leased = {vm: trace for vm, trace in self._machine.items() if trace.guest and trace.guest.leased}
        for vm, trace in leased.items():
            self._machine[vm] = msgspec.structs.replace(trace.written(LEASE_LOST), guest=None)
        return frozenset(leased)
