"""A host: what the operator wants of it, whether it lives, whether it was declared dead, and what it says of itself."""

from typing import ClassVar, Literal

from ucloud.model.record import Record
from ucloud.model.secret import Secret


class Host(Record, frozen=True, kw_only=True):
    """What the operator wants. Written by the API. cpus, memory_mib: the agreed capacity, 0: all that it reports. off: the
    operator's word that the machine that booted as `off` (`Inventory.boot`) is switched off; another boot of it is not meant.
    removed_at: it shall be forgotten; lost: though it never came back to be emptied."""

    prefix: ClassVar[str] = "host/"
    id: str
    name: str
    enabled: bool = True
    labels: dict[str, str] = {}
    cpus: int = 0
    memory_mib: int = 0
    off: str = ""
    created: str
    removed_at: str = ""
    lost: bool = False

    @property
    def key(self) -> str:
        return self.at(self.id)

    def matches(self, wish: str) -> bool:
        """wish: the id of a host, or a label that it must have (rack=r1); "": any host will do."""
        label, equals, value = wish.partition("=")
        return self.labels.get(label) == value if equals else wish in ("", self.id)

    def is_off(self, boot: str) -> bool:
        """Somebody has said that the machine that booted as `boot` is switched off."""
        return self.off != "" and self.off == boot

    def capacity(self, inventory: "Inventory") -> tuple[int, int]:
        """Cores and MiB of memory to use of it: the smaller of what was agreed and what it reports."""
        return (
            min(self.cpus or inventory.cpus, inventory.cpus),
            min(self.memory_mib or inventory.memory_mib, inventory.memory_mib),
        )


class Alive(Record, frozen=True, kw_only=True):
    """The host's heartbeat, bound to a lease of its `lease` daemon: gone when the host is. boot: changes with every boot of
    the machine. degraded: its host daemon has not looked at its guests for a while; they go on, and no new ones come."""

    prefix: ClassVar[str] = "alive/"
    host: str
    boot: str
    degraded: bool = False

    @property
    def key(self) -> str:
        return self.at(self.host)


class Fence(Record, frozen=True, kw_only=True):
    """This host is declared dead: while this record is there, no first act of the host (`status: starting`) can be
    committed. Written by the host manager. See doc/fencing.md.

    number: rises with every fence of the host. boot: of the machine that is meant, as its inventory said last. phase:
    `fencing` while pools are made safe; `fenced`: for each pool in `proofs` no guest of that host writes to it any more, and
    why that is so, in words. errors: pool → why it could not be made safe yet.
    """

    prefix: ClassVar[str] = "fence/"
    host: str
    number: int
    boot: str
    phase: Literal["fencing", "fenced"]
    since: str
    reason: str
    proofs: dict[str, str] = {}
    errors: dict[str, str] = {}

    @property
    def key(self) -> str:
        return self.at(self.host)


class Reconciled(Record, frozen=True, kw_only=True):
    """The host has found its fence `number`, and nothing runs on it that was started before. Written by that host."""

    prefix: ClassVar[str] = "status/"
    host: str
    number: int
    boot: str

    @property
    def key(self) -> str:
        return self.at(self.host, "reconciled")


class Failover(Record, frozen=True, kw_only=True):
    """Whether hosts may be declared dead. Written by the API. One record; without it they may."""

    prefix: ClassVar[str] = "cluster/"
    armed: bool = True
    since: str
    reason: str = ""

    @property
    def key(self) -> str:
        return self.at("failover")


class Hold(Record, frozen=True, kw_only=True):
    """Silent hosts are not declared dead now, and why. Written by the host manager, on change only. hosts: their ids."""

    prefix: ClassVar[str] = "cluster/"
    reason: str
    since: str
    hosts: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.at("hold")


class JoinToken(Record, frozen=True, kw_only=True):
    """Leave for one machine to join as `name`, once. Written by the API. sha256: of the token, which is kept nowhere."""

    prefix: ClassVar[str] = "token/join/"
    sha256: str
    name: str
    created: str
    expires: str

    @property
    def key(self) -> str:
        return self.at(self.sha256)


class Inventory(Record, frozen=True, kw_only=True):
    """What the host is and has, said by itself. stray_vms: VMs of
    which something is on this host though no manifest names them; their guests are killed, their disks and logs kept. boot:
    of its machine; changes with every boot."""

    prefix: ClassVar[str] = "status/"
    host: str
    cpus: int
    memory_mib: int
    hypervisor: str
    accel: str
    version: str
    boot: str = ""
    stray_vms: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.at(self.host, "inventory")


class Endpoint(Record, frozen=True, kw_only=True):
    """Where the API reaches this host's daemon (logs, consoles), and the token that it asks for. The token is made anew
    at each start by the host itself, so that it opens nothing but this host."""

    prefix: ClassVar[str] = "status/"
    host: str
    url: str
    token: Secret

    @property
    def key(self) -> str:
        return self.at(self.host, "endpoint")
