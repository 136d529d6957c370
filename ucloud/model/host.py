"""A host: what the operator wants of it, whether it lives, and what it says of itself."""

from typing import ClassVar

from ucloud.model.record import Record
from ucloud.model.secret import Secret


class Host(Record, frozen=True, kw_only=True):
    """What the operator wants. Written by the API. cpus, memory_mib: the agreed capacity, 0: all that it reports."""

    prefix: ClassVar[str] = "host/"
    id: str
    name: str
    enabled: bool = True
    labels: dict[str, str] = {}
    cpus: int = 0
    memory_mib: int = 0
    created: str

    @property
    def key(self) -> str:
        return self.at(self.id)

    def matches(self, wish: str) -> bool:
        """wish: the id of a host, or a label that it must have (rack=r1); "": any host will do."""
        label, equals, value = wish.partition("=")
        return self.labels.get(label) == value if equals else wish in ("", self.id)

    def capacity(self, inventory: "Inventory") -> tuple[int, int]:
        """Cores and MiB of memory to use of it: the smaller of what was agreed and what it reports."""
        return (
            min(self.cpus or inventory.cpus, inventory.cpus),
            min(self.memory_mib or inventory.memory_mib, inventory.memory_mib),
        )


class Alive(Record, frozen=True, kw_only=True):
    """The host's heartbeat, bound to a lease: gone when the host is. boot: changes with every boot of the machine."""

    prefix: ClassVar[str] = "alive/"
    host: str
    boot: str

    @property
    def key(self) -> str:
        return self.at(self.host)


class Inventory(Record, frozen=True, kw_only=True):
    """What the host is and has, said by itself. stray_vms: VMs of
    which something is on this host though no manifest names them; their guests are killed, their disks and logs kept."""

    prefix: ClassVar[str] = "status/"
    host: str
    cpus: int
    memory_mib: int
    hypervisor: str
    accel: str
    version: str
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
