"""What dnsmasq is told: its command lines, and the files of guests and names that it follows. Pure; called by dnsmasq.py.

A network has several programs. `dns` hears from the whole internet, and guests can keep the others busy: so it is apart, with
less rights. `dhcp6` advertises the router and answers DHCPv6; `dhcp4` is there where the network has an IPv4 range. These are
two because of leases: DHCPv6 has none here (`--dhcp-lease-max=0`), so that an address belongs to a MAC, whatever identifier
(DUID, IAID) its guest has made up since its last boot; dnsmasq would otherwise refuse it until the lease has expired. DHCPv4
needs them. In exchange DHCPv6 gives addresses for ever, which is true: they are the port's. A guest that asks to renew all the
same is told to ask anew, here or on the host that it moved to, and is given the same address.

A VM's name comes from the address book alone (`names`): what guests call themselves is ignored. `metadata` is the gateway's, on
which the metadata daemon answers; its well-known addresses are reached without a router too, as neighbours by IPv6 (its prefix
is advertised as on-link), by a route of their own by IPv4 (RFC 3442).
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import msgspec

from ucloud.base.ids import is_name
from ucloud.driver.overlay.names import METADATA4, METADATA6, bridge
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
    "--bind-dynamic",  # to addresses, as there are others of its kind; one that comes late is no reason to end
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
    yield Program("dns", BIND, (*ALWAYS, *_dns(service, resolvers)))
    dhcp = (*ALWAYS, "--except-interface=lo", f"--interface={bridge(service.vni)}", *DHCP)
    yield Program("dhcp6", SERVE, (*dhcp, *_ipv6(service)))
    if service.ipv4:
        yield Program("dhcp4", SERVE, (*dhcp, *_ipv4(service)))


def _dns(service: Service, resolvers: Sequence[str]) -> tuple[str, ...]:
    """What is ours never leaves: names of the whole cloud, and of private addresses. It listens at the gateway's addresses, not
    on the bridge: others there are on all bridges. The packet filter keeps away whoever is not on its network."""
    cloud = service.domain.partition(".")[2]
    gateways = (f"{IPv6Network(service.ipv6)[1]}", *([f"{IPv4Network(service.ipv4)[1]}"] if service.ipv4 else []))
    return (
        *(f"--listen-address={address}" for address in gateways),
        "--no-hosts",
        f"--hostsdir=/{NAMES}",
        f"--domain={service.domain}",
        "--expand-hosts",
        f"--local=/{cloud}/",
        f"--host-record=metadata.{service.domain},metadata.{cloud},metadata,{','.join(gateways)}",
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
        f"--dhcp-range={IPv6Network((METADATA6, 64), strict=False).network_address},static,64,infinite",
        "--dhcp-lease-max=0",
        f"--dhcp-duid={DUID}",
        f"--dhcp-option=option6:dns-server,[{subnet[1]}]",
        f"--dhcp-option=option6:domain-search,{service.domain}",
    )


def _ipv4(service: Service) -> tuple[str, ...]:
    """Answers are broadcast: to answer a guest without an address directly dnsmasq would change the host's ARP table."""
    subnet = IPv4Network(service.ipv4)
    ways = f"0.0.0.0/0,{subnet[1]}," if service.routed else ""  # who takes routes takes no router beside them
    return (
        f"--dhcp-range={subnet.network_address},static,{subnet.netmask},{LEASE4_S}",
        "--dhcp-lease-max=65536",
        "--dhcp-ignore-clid",
        "--dhcp-broadcast",
        "--no-ping",
        f"--dhcp-option=option:router{f',{subnet[1]}' if service.routed else ''}",
        f"--dhcp-option-force=option:classless-static-route,{ways}{METADATA4}/32,{subnet[1]}",
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
