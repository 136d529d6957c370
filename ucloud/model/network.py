"""A network: what its owner wants, and who is on it."""

from typing import ClassVar, Literal

import msgspec

from ucloud.model.record import Record

Allowed = Literal["ra", "dhcp"]


class Network(Record, frozen=True, kw_only=True):
    """What people want. Written by the API, which also deletes it, when no VM is on it; but for its name nothing ever changes.

    public: routed to the outside; else nothing leaves it. vni: 1 to 2^24 - 1, unique in the cloud (RFC 7348). ipv6: its /64,
    unique in the cloud, as `fd12:3456:789a:1::/64`. ipv4: "" or a private range (RFC 1918), unique in the cloud, as
    `10.1.0.0/24`. mtu: of the guests' interfaces. slaac: router advertisements let guests make their address from their MAC
    (RFC 4862, EUI-64), for those without DHCPv6; it is the one that DHCPv6 gives them.
    """

    prefix: ClassVar[str] = "network/"
    id: str
    name: str
    project: str = "default"
    public: bool = False
    vni: int
    ipv6: str
    ipv4: str = ""
    mtu: int
    slaac: bool = False
    labels: dict[str, str] = {}
    created: str

    @property
    def key(self) -> str:
        return self.at(self.id)


class Port(Record, frozen=True, kw_only=True):
    """The address book: a VM on a network, for the others on it. Written by the scheduler, while a host has the VM; it holds
    nothing that is secret from them."""

    prefix: ClassVar[str] = "port/"
    network: str
    vm: str
    name: str
    mac: str
    ipv6: str
    ipv4: str = ""
    host: str

    @property
    def key(self) -> str:
        return self.at(self.network, self.vm)


class VmPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A VM's port on a network, for its life: MAC and addresses are its own, and nobody else's there. allow: what its guest may
    do that others may not: advertise routes (ra), answer DHCP (dhcp); in private networks only."""

    network: str
    mac: str
    ipv6: str
    ipv4: str = ""
    allow: tuple[Allowed, ...] = ()


class NetworkRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a host needs to know of a network; see `Network`."""

    id: str
    name: str
    public: bool = False
    vni: int
    ipv6: str
    ipv4: str = ""
    mtu: int
    slaac: bool = False


class ManifestPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port as its host is told of it; see `VmPort`."""

    network: NetworkRef
    mac: str
    ipv6: str
    ipv4: str = ""
    allow: tuple[Allowed, ...] = ()
