"""Network interfaces of a running guest, plugged in and taken out over QMP. Called by qemu.py.

An interface is a backend (netdev), which holds the tap, and a device in front of it, which the guest lets go of when it likes.
A device that has lost its backend never gets another: a new one has to come in its place.
"""

import contextlib
import os
import re

from ucloud.base.errors import Conflict, Temporary
from ucloud.driver.hypervisor.contract import GuestNic
from ucloud.driver.hypervisor.qemu_command import PORTS, PluggedNic, netdev_id, nic_device
from ucloud.driver.hypervisor.qemu_guest import QemuGuest
from ucloud.driver.hypervisor.tap import held_taps, open_tap

UNPLUG_S = 5.0
GPE0_ENABLE, PCI_HOTPLUG = 0x628, 1 << 1  # where a guest says which events of ACPI it wants to be told; the one of hotplug


def attach(guest: QemuGuest, nic: GuestNic) -> None:
    """As `Hypervisor.attach`."""
    there = guest.nics().get(nic.mac)
    if there and held_taps([there.tap]):
        return
    if there:
        detach(guest, nic.mac)
    taken = {other.port for other in guest.nics().values()}
    free = [port for port in PORTS if port not in taken]
    if not free:
        raise Conflict(f"the guest has {len(PORTS)} network interfaces already")
    _remove_backend(guest, nic.mac)  # of an attempt that was broken off; it would hold the tap
    try:
        _add_backend(guest, nic)
        guest.call("device_add", nic_device(free[0], nic))
    except Temporary:
        if nic.mac not in guest.nics():  # else only the answer was lost
            _remove_backend(guest, nic.mac)
        raise
    guest.nics()


def detach(guest: QemuGuest, mac: str) -> None:
    """As `Hypervisor.detach`. The backend goes in any case: while its tap is gone, qemu tries to read from it without end."""
    there = guest.nics().get(mac)
    try:
        if there:
            _unplug(guest, there)
    finally:
        _remove_backend(guest, mac)


def _unplug(guest: QemuGuest, nic: PluggedNic) -> None:
    if not _listens(guest):
        raise Temporary(f"the guest has no operating system yet that could let go of {nic.mac}")
    with contextlib.suppress(Temporary):  # refused when it was asked before: then it is only waited for
        guest.call("device_del", {"id": nic.id})
    if not guest.wait_for_unplugging(nic.mac, UNPLUG_S):
        raise Temporary(f"the guest does not let go of {nic.mac}")


def _add_backend(guest: QemuGuest, nic: GuestNic) -> None:
    id, tap = netdev_id(nic.mac), open_tap(nic.tap)
    try:
        guest.call("getfd", {"fdname": id}, descriptors=[tap])
    finally:
        os.close(tap)
    guest.call("netdev_add", {"type": "tap", "id": id, "fd": id})


def _remove_backend(guest: QemuGuest, mac: str) -> None:
    """And the descriptor that was to become one. qemu refuses what is not there."""
    for command, name in (("netdev_del", "id"), ("closefd", "fdname")):
        with contextlib.suppress(Temporary):
            guest.call(command, {name: netdev_id(mac)})


def _listens(guest: QemuGuest) -> bool:
    """Whether its operating system has asked for events of PCI hotplug by ACPI. For one that has not, a request would be lost,
    and qemu before version 8.1 never makes a second one."""
    answer = guest.call("human-monitor-command", {"command-line": f"i/b {GPE0_ENABLE:#x}"})
    enabled = re.fullmatch(r"portb\[0x\w+\] = 0x(\w+)\s*", str(answer))
    return bool(enabled and int(enabled[1], 16) & PCI_HOTPLUG)
