"""Guests: what a hypervisor driver is told to run, and what it says is running."""

from collections.abc import Mapping
from typing import Literal

import msgspec

NO_SPACE = "the guest stands still: there is no room for what it writes to its disk"

GuestState = Literal["running", "paused", "no-space", "powered-off"]


class GuestDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as the hypervisor attaches it. path: a file in `format` (qcow2), its backing files included beside it."""

    name: str
    path: str
    format: str = "qcow2"


class GuestNic(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface as the hypervisor attaches it; told from a guest's others by its MAC. tap: the interface of this host
    that it is plugged into; it exists."""

    mac: str
    tap: str
    mtu: int


class GuestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A guest to be. Disks are attached in order; the first is booted. cidata: the files of one more disk, which the guest can
    only read: a file system named cidata, where cloud-init looks for them (NoCloud); {}: no such disk. leased: it must not
    outlive its host's lease."""

    vm: str
    name: str
    epoch: int
    boots: int
    cpus: int
    memory_mib: int
    disks: tuple[GuestDisk, ...] = ()
    nics: tuple[GuestNic, ...] = ()
    cidata: Mapping[str, bytes] = {}
    leased: bool = False


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that exists. powered-off: the guest shut itself down; its process waits to be told to go.
    no-space: it stands still until it is told to go on, as there was no room for what it wrote to its disk. macs: of the
    network interfaces that it has. cut: of those, the ones whose cable is pulled: the guest was asked to let go of them and has
    not, or somebody took their tap away. leased: `deadman` kills it when the host's lease runs out."""

    vm: str
    epoch: int
    boots: int
    state: GuestState
    macs: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    leased: bool = False
