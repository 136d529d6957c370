"""What dnsmasq is told: its command lines, and the files of guests and names that it follows. Pure; called by dnsmasq.py.

A network has several programs. `dns` hears from the whole internet, and guests can keep the others busy: so it is apart, with
less rights. `dhcp6` advertises the router and answers DHCPv6; `dhcp4` is there where the network has an IPv4 range. These are
two because of leases: DHCPv6 has none here (`--dhcp-lease-max=0`), so that an address belongs to a MAC, whatever identifier
(DUID, IAID) its guest has made up since its last boot; dnsmasq would otherwise refuse it until the lease has expired. DHCPv4
needs them. In exchange DHCPv6 gives addresses for ever, which is true: they are the port's. A guest that asks to renew all the
same is told to ask anew, here or on the host that it moved to, and is given the same address.

A VM's name comes from the address book alone (`names`): what guests call themselves is ignored.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import msgspec

from ucloud.base.ids import is_name
from ucloud.driver.overlay.names import bridge
from ucloud.model.wiring import HostName, Reservation, Service

GUESTS, NAMES, LOG = "guests", "names", "log"  # in a network's directory, and at the top of what dnsmasq sees
RESERVED = frozenset({"gateway", "localhost", "metadata"})  # no VM takes over what guests expect of the cloud
FIRST_UID = 0x7F000000  # above those of guests (hypervisor/qemu_command.py)

DUID = "32473,75636c6f7564"  # the same on all hosts: RFC 5612's number, "ucloud"
ADVERTISED_S = 600  # a host's own router advertisements; those that are asked for come at once
ROUTER_S = 9000  # the most that RFC 4861 allows
LEASE4_S = 86400

BIND, SERVE = "-all,+net_bind_service", "-all,+net_admin,+net_bind_service,+net_raw"  # capabilities; it refuses fewer
ALWAYS = (
    "dnsmasq",
    "--conf-file=/dev/null",
    "--user=",
    "--group=",
    "--pid-file=",
    f"--log-facility=/{LOG}",
    "--except-interface=lo",
    "--bind-dynamic",  # it looks at the interface that a packet came from, not at its address alone
)
DHCP = (
    "--port=0",
    f"--dhcp-hostsdir=/{GUESTS}",
    "--dhcp-ignore=tag:!known",
    "--dhcp-ignore-names",
    "--dhcp-authoritative",
    "--leasefile-ro",
    "--quiet-dhcp",
    "--quiet-dhcp6",
    "--quiet-ra",
)


class Program(NamedTuple):
    name: str
    capabilities: str
    command: tuple[str, ...]


def uid(vni: int) -> int:
    """The user of a network's processes. Each has its own, as the kernel counts what dnsmasq needs (inotify) by user."""
    return FIRST_UID + vni


def programs(service: Service, resolvers: Sequence[str]) -> Iterator[Program]:
    shared = (*ALWAYS, f"--interface={bridge(service.vni)}")
    yield Program("dns", BIND, (*shared, *_dns(service, resolvers)))
    yield Program("dhcp6", SERVE, (*shared, *DHCP, *_ipv6(service)))
    if service.ipv4:
        yield Program("dhcp4", SERVE, (*shared, *DHCP, *_ipv4(service)))


def _dns(service: Service, resolvers: Sequence[str]) -> tuple[str, ...]:
    """What is ours never leaves: names of the whole cloud, and of private addresses."""
    return (
        "--no-hosts",
        f"--hostsdir=/{NAMES}",
        f"--domain={service.domain}",
        "--expand-hosts",
        f"--local=/{service.domain.partition('.')[2]}/",
        "--domain-needed",
        "--bogus-priv",
        "--no-ident",
        "--no-resolv",
        *(f"--server={address}" for address in resolvers),
        "--cache-size=1000",
    )


def _ipv6(service: Service) -> tuple[str, ...]:
    subnet = IPv6Network(service.ipv6)
    slaac = "slaac," if service.slaac else ""
    return (
        "--enable-ra",
        f"--ra-param={bridge(service.vni)},mtu:{service.mtu},{ADVERTISED_S},{ROUTER_S if service.routed else 0}",
        f"--dhcp-range={subnet.network_address},static,{slaac}{subnet.prefixlen},infinite",
        "--dhcp-lease-max=0",
        f"--dhcp-duid={DUID}",
        f"--dhcp-option=option6:dns-server,[{subnet[1]}]",
        f"--dhcp-option=option6:domain-search,{service.domain}",
    )


def _ipv4(service: Service) -> tuple[str, ...]:
    """Answers are broadcast: to answer a guest without an address directly dnsmasq would change the host's ARP table."""
    subnet = IPv4Network(service.ipv4)
    return (
        f"--dhcp-range={subnet.network_address},static,{subnet.netmask},{LEASE4_S}",
        "--dhcp-lease-max=65536",
        "--dhcp-ignore-clid",
        "--dhcp-broadcast",
        "--no-ping",
        f"--dhcp-option=option:router{f',{subnet[1]}' if service.routed else ''}",
        f"--dhcp-option=option:dns-server,{subnet[1]}",
        f"--dhcp-option=option:domain-name,{service.domain}",
        f"--dhcp-option=option:domain-search,{service.domain}",
        f"--dhcp-option=option:mtu,{service.mtu}",
    )


def guest_file(guest: Reservation) -> str:
    """The file of a reservation; the comment is for us."""
    line = ",".join([guest.mac, f"[{guest.ipv6}]", *([guest.ipv4] if guest.ipv4 else [])])
    return f"# {msgspec.json.encode(guest).decode()}\n{line}\n"


def names_file(name: HostName) -> str:
    """The file of a VM's name: addresses with the short name, which dnsmasq completes."""
    lines = [f"{address} {name.name}" for address in name.addresses if is_name(name.name) and name.name not in RESERVED]
    return "\n".join([f"# {msgspec.json.encode(name).decode()}", *lines, ""])
