"""A VM: what its owner wants, where it is placed, what its host was told, and what that host sees."""

from typing import ClassVar, Literal

import msgspec

from ucloud.model.image import PoolFence
from ucloud.model.network import ManifestPort, VmPort
from ucloud.model.record import Record

Ha = Literal["restart", "never"]
Priority = Literal["low", "normal", "high"]
Power = Literal["on", "off"]
Want = Literal["running", "stopped", "absent"]
Phase = Literal["starting", "running", "stopping", "stopped", "off"]


class Vm(Record, frozen=True, kw_only=True):
    """What people want. Written by the API; the scheduler deletes it when no trace of the VM is left.

    boots: how often it was told to start; start, reboot and reset raise it. hard: the last change of power or boots
    does not ask the guest first (stop --force, reset). host: the only one it may run on (an id), or a label that its host
    must have (rack=r1); "": any. spread: a group whose VMs never share a host (web), or a value of a host label (web@rack).
    keys: ids of those who may log in. user_data: SHA-256 of the `Blob`, "" for none, and its length. metadata: what its owner
    tells the guest (/custom/KEY). ha: what becomes of it when its host dies: it is restarted elsewhere, or waits for that host.
    priority: whose turn it is first when there are many.
    """

    prefix: ClassVar[str] = "vm/"
    id: str
    name: str
    project: str = "default"
    image: str
    pool: str
    cpus: int = 1
    memory_mib: int = 512
    disk_mib: int
    power: Power = "on"
    boots: int = 1
    hard: bool = False
    host: str = ""
    spread: str = ""
    ha: Ha = "restart"
    priority: Priority = "normal"
    labels: dict[str, str] = {}
    delete_protection: bool = False
    ports: tuple[VmPort, ...] = ()  # at most one on each network
    keys: tuple[str, ...] = ()
    user_data: str = ""
    user_data_bytes: int = 0
    metadata: dict[str, str] = {}
    created: str
    deleted_at: str = ""

    @property
    def key(self) -> str:
        return self.at(self.id)


class Placement(Record, frozen=True, kw_only=True):
    """Which host owns the VM (`""`: none yet, `reason` says why). Written by the scheduler, only when it changes.

    epoch rises with every owner; whatever a host makes for a VM carries it. waits_for: why the host is not told yet what is
    wanted now, "" when it is; waits_since: since when that is so. lost: its disk was lost with the host that had it.
    powered_off: the boot whose guest had powered itself off when its host died.
    """

    prefix: ClassVar[str] = "placement/"
    vm: str
    host: str
    epoch: int
    since: str
    reason: str
    waits_for: str = ""
    waits_since: str = ""
    lost: bool = False
    powered_off: int = 0

    @property
    def key(self) -> str:
        return self.at(self.vm)


class PoolRef(msgspec.Struct, frozen=True, kw_only=True):
    """What a host needs to know of a pool: see `ucloud.model.image.Pool`."""

    name: str
    kind: str
    path: str
    shared: bool = False
    fence: PoolFence = "none"

    @property
    def needs_lease(self) -> bool:
        """A guest with a disk in it must not outlive its host's lease."""
        return self.shared and self.fence != "none"


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A clone of `image` in `pool`, grown to `size_mib`."""

    name: str
    pool: PoolRef
    image: str
    size_mib: int


class Manifest(Record, frozen=True, kw_only=True):
    """All that a host needs to run a VM. Written by the scheduler. `revisions` (stored as `from`) names the revision of
    each record that it was made from: {"vm": 184, "pool": 7, "network-01h…": 9}; the host echoes it. keys: lines for
    authorized_keys. user_data: SHA-256 of the `HostBlob` that holds it, which this host has as long as a manifest names it.
    powered_off: this boot's guest has powered itself off under an earlier epoch, and is not started again."""

    prefix: ClassVar[str] = "manifest/"
    host: str
    vm: str
    name: str
    epoch: int
    boots: int
    want: Want
    hard: bool = False
    powered_off: bool = False
    ha: Ha = "restart"
    cpus: int
    memory_mib: int
    disks: tuple[Disk, ...] = ()
    disks_do: Literal["keep", "delete"] = "keep"
    ports: tuple[ManifestPort, ...] = ()
    keys: tuple[str, ...] = ()
    user_data: str = ""
    metadata: dict[str, str] = {}
    revisions: dict[str, int] = msgspec.field(name="from", default_factory=dict)

    @property
    def key(self) -> str:
        return self.at(self.host, self.vm)

    @property
    def needs_lease(self) -> bool:
        return any(disk.pool.needs_lease for disk in self.disks)


class Status(Record, frozen=True, kw_only=True):
    """What the host sees of a VM, written by that host on change only.

    phase: `off` means that the guest powered itself off (it stays off until `boots` rises), `stopped` that it was told
    to. crashes: how often it died by itself since it was told to boot. error: the last failure, "" after a success. ha, pools:
    as in the manifest, so that it is known what the host has agreed to. leased: its guest, if there is one, is killed when the
    host's lease runs out.
    """

    prefix: ClassVar[str] = "status/"
    host: str
    vm: str
    epoch: int
    boots: int
    phase: Phase
    since: str
    crashes: int = 0
    error: str = ""
    ha: Ha = "restart"
    pools: tuple[str, ...] = ()
    leased: bool = False
    revisions: dict[str, int] = msgspec.field(name="from", default_factory=dict)

    @property
    def key(self) -> str:
        return self.at(self.host, "vm", self.vm)
