"""The command line of one guest, as pure text: what the guest is made of, and who it runs as.

Called by qemu.py. The epoch and boots of a running guest are read back from here (`identity`), so that a daemon needs no
memory of its guests; the guest itself can read them, too (/sys/firmware/dmi/entries/11-0/raw).
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence

import msgspec

from ucloud.driver.hypervisor.contract import MOST_NICS, GuestDisk, GuestNic, GuestSpec

BINARY = "qemu-system-x86_64"
UUID_NAMESPACE = uuid.UUID("5b1d4c1e-7a52-4f0c-9d3a-6a1f0e0c8b77")
FIRST_UID = 0x70000000
UIDS = 0x0F000000
PORTS = range(1, MOST_NICS + 1)
NIC = re.compile(r"nic(\d)-([0-9a-f]{12})-([a-z0-9]{1,15})")

# Devices that no guest of ours uses: each costs memory, time in the firmware, and code that a guest could attack.
MACHINE = "q35,usb=off,sata=off,smbus=off,vmport=off"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Files(msgspec.Struct, frozen=True):
    """Descriptors that the process inherits: listening sockets for QMP and console, the serial log to append to, the taps of
    its network interfaces, in order, and the cidata disk to read, if it has one.

    Handed over open, so that the guest's user owns no name in any directory that root trusts.
    """

    qmp: int
    console: int
    log: int
    taps: tuple[int, ...] = ()
    cidata: int | None = None

    def inherited(self) -> tuple[int, ...]:
        return (self.qmp, self.console, self.log, *self.taps, *(() if self.cidata is None else (self.cidata,)))


def uid(vm: str) -> int:
    """The user and group of a VM's process and disks: 0x70000000 to 0x7effffff, always the same for the same VM.

    No distribution hands these out (Debian ends at 65533 and its subordinate ids at 0x2b000000, systemd's containers at
    0x6fffffff, its foreign ids begin at 0x7ffe0000), so nothing needs to be allocated or kept. Two VMs of one host sharing a
    number by chance (one in 500 hosts of 1,000 VMs) are still two guests; only after breaking out of qemu they
    could reach each other's files.
    """
    return FIRST_UID + int.from_bytes(hashlib.sha256(vm.encode()).digest()[:8], "big") % UIDS


def command_line(spec: GuestSpec, accel: str, files: Files, *, direct: bool) -> list[str]:
    """direct: bypass the host's page cache, where the file system of the disks can."""
    return [
        BINARY,
        *("-name", spec.vm),
        *("-machine", MACHINE),
        *("-accel", accel),
        *("-cpu", "host" if accel == "kvm" else "max"),
        *("-smp", str(spec.cpus)),
        *("-m", f"{spec.memory_mib}M"),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        "-no-shutdown",  # a guest that powered itself off stays visible, even when no daemon looked at that moment
        *("-boot", "menu=off,strict=on"),
        *("-smbios", f"type=1,manufacturer=ucloud,uuid={uuid.uuid5(UUID_NAMESPACE, spec.vm)}"),
        *("-smbios", f"type=11,value=ucloud-epoch={spec.epoch},value=ucloud-boots={spec.boots}"),
        *("-add-fd", f"fd={files.log},set=1"),
        *("-chardev", f"socket,id=qmp,fd={files.qmp},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,fd={files.console},server=on,wait=off,logfile=/dev/fdset/1,logappend=on"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-rng-pci"),
        *(word for number, disk in enumerate(spec.disks) for word in _disk(number, disk, direct)),
        *(() if files.cidata is None else _cidata(files.cidata)),
        *(word for port in PORTS for word in ("-device", f"pcie-root-port,id=port{port},chassis={port},io-reserve=0")),
        *(word for port, nic, tap in zip(PORTS, spec.nics, files.taps, strict=False) for word in _nic(port, nic, tap)),
        *(() if spec.nics else ("-nic", "none")),
    ]


def _disk(number: int, disk: GuestDisk, direct: bool) -> tuple[str, ...]:
    node = {
        "node-name": f"disk{number}",
        "driver": disk.format,
        "discard": "unmap",
        "cache": {"direct": direct},
        "file": {"driver": "file", "filename": disk.path, "discard": "unmap", "locking": "on"},
    }
    return (
        *("-blockdev", json.dumps(node)),
        *("-device", f"virtio-blk-pci,drive=disk{number},bootindex={number},serial={disk.name}"),
    )


def _cidata(descriptor: int) -> tuple[str, ...]:
    """The last disk, which is never booted."""
    file = {"driver": "file", "filename": "/dev/fdset/2"}
    return (
        *("-add-fd", f"fd={descriptor},set=2"),
        *("-blockdev", json.dumps({"node-name": "cidata", "driver": "raw", "read-only": True, "file": file})),
        *("-device", "virtio-blk-pci,drive=cidata,serial=cidata"),
    )


def _nic(port: int, nic: GuestNic, tap: int) -> tuple[str, ...]:
    return (
        *("-netdev", f"tap,id={netdev_id(nic.mac)},fd={tap}"),
        *("-device", json.dumps(nic_device(port, nic))),
    )


def nic_device(port: int, nic: GuestNic) -> dict[str, str | int]:
    """As `-device` and QMP's device_add take it. Each sits in a slot of its own, the only kind that can be plugged at run time.
    romfile: no boot from the network, which would cost memory and time."""
    return {
        "driver": "virtio-net-pci",
        "id": nic_id(port, nic),
        "bus": f"port{port}",
        "netdev": netdev_id(nic.mac),
        "mac": nic.mac,
        "host_mtu": nic.mtu,
        "romfile": "",
    }


def nic_id(port: int, nic: GuestNic) -> str:
    """Says all that a daemon must know of it (`plugged`)."""
    return f"nic{port}-{nic.mac.replace(':', '')}-{nic.tap}"


def netdev_id(mac: str) -> str:
    return f"tap-{mac.replace(':', '')}"


class PluggedNic(msgspec.Struct, frozen=True):
    id: str
    port: int
    mac: str
    tap: str


def plugged(id: str) -> PluggedNic | None:
    """The network interface that a device is; None when it is none of ours."""
    found = NIC.fullmatch(id)
    return PluggedNic(id, int(found[1]), ":".join(re.findall("..", found[2])), found[3]) if found else None


class Identity(msgspec.Struct, frozen=True):
    vm: str
    epoch: int
    boots: int


def identity(words: Sequence[str]) -> Identity | None:
    """Whose guest a command line describes; None when it is none of ours. A process may write into its own command line,
    so it may hold anything."""
    vm, numbers = "", {}
    for option, value in zip(words, words[1:], strict=False):
        if option == "-name":
            vm = value
        elif option == "-smbios" and value.startswith("type=11,"):
            parts = (part.removeprefix("value=").partition("=") for part in value.split(",")[1:])
            numbers = {name: number for name, _, number in parts}
    try:
        return Identity(vm, int(numbers["ucloud-epoch"]), int(numbers["ucloud-boots"])) if vm else None
    except (KeyError, ValueError):
        return None


def reason(complaints: str) -> str:
    """Why qemu gave up, for people: its last complaint with the hints below it, without the options that it repeats."""
    lines = complaints.strip().splitlines()
    own = [number for number, line in enumerate(lines) if line.startswith(f"{BINARY}: ")]
    said = " ".join(lines[own[-1] if own else -1 :]).removeprefix(f"{BINARY}: ")
    return re.sub(r"^-blockdev \{.*\}: ", "", said)
