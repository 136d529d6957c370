"""What a host is made of besides guests and disks, as data (DESIGN section 5: a host is a few sets).

Made from manifests and the address book by the pure functions of network/wanted.py, firewall/rules.py, ipam/wanted.py and
metadata/wanted.py;
brought about by drivers, each of which has one or more sets of them (`ucloud.driver.things`). Nothing here names an interface:
that is the drivers' business. Two things of a type with the same `key` are the same thing in different states.
"""

from typing import TypeAlias

import msgspec

from ucloud.model.network import Allowed, ManifestPort


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A network on this host: a bridge and its VXLAN to the other hosts, and this host as the gateway on it. group: the
    multicast group of its VXLAN. gateways: addresses of the router with their prefix length (`fd00::1/64`, `10.1.0.1/24`);
    fe80::1 comes with each. public: packets are forwarded between it, other public ones and the uplink."""

    vni: int
    group: str
    mtu: int
    gateways: tuple[str, ...]
    public: bool

    @property
    def key(self) -> str:
        return f"{self.vni}"


class Plug(msgspec.Struct, frozen=True, kw_only=True):
    """Where a guest's interface is plugged in. Its address is reachable from this host while it is there."""

    vm: str
    vni: int
    mac: str
    mtu: int
    addresses: tuple[str, ...]  # without prefix length, IPv6 first
    public: bool  # told to the routers outside (ipv6 only)

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.vm}"


class PortFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What may come from a guest through its plug: frames from `mac` alone; IPv6 and IPv4 from, and neighbour
    advertisements and ARP for, `addresses` alone, its link-local address made from the MAC, or one that nobody else in its
    network has (`Taken`). allow: see `ucloud.model.network.VmPort`."""

    vm: str
    vni: int
    mac: str
    addresses: tuple[str, ...]  # IPv6 first
    allow: tuple[Allowed, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.vm}"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A link-local address that is somebody's in this network; no other guest may use it."""

    vni: int
    address: str

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.address}"


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Router advertisements, DHCP and DNS of a network, on this host, for the guests here. ipv6: its /64. ipv4: "" or its
    range. routed: whether guests get a default route. domain: of its VMs' names, and where guests search for short ones
    (default.ucloud.internal)."""

    vni: int
    ipv6: str
    ipv4: str
    mtu: int
    slaac: bool
    routed: bool
    domain: str

    @property
    def key(self) -> str:
        return f"{self.vni}"


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses that DHCP gives to a guest here; it knows no other clients."""

    vm: str
    vni: int
    name: str
    mac: str
    ipv6: str
    ipv4: str

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.vm}"


class HostName(msgspec.Struct, frozen=True, kw_only=True):
    """A name in a network's DNS: of any VM on it, here or elsewhere."""

    vm: str
    vni: int
    name: str
    addresses: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.vm}"


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest here is told when it asks through this port. sources: the addresses that it asks from, which the filter lets
    nobody else use: its IPv6, the link-local one made from its MAC, its IPv4. domain: of its name in this network. keys: lines
    for authorized_keys. custom: what its owner wants it to know. ports: all that the VM has."""

    vm: str
    vni: int
    sources: tuple[str, ...]
    name: str
    domain: str
    keys: tuple[str, ...] = ()
    user_data: bytes = b""
    custom: dict[str, str] = {}
    ports: tuple[ManifestPort, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.vni}/{self.vm}"

    @property
    def fqdn(self) -> str:
        return f"{self.name}.{self.domain}"


Thing: TypeAlias = Segment | Plug | PortFilter | Taken | Service | Reservation | HostName | Metadata
