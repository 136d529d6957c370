"""Networks on a Linux host: for each a bridge, and a VXLAN (RFC 7348) as one of its ports. Made by `LinuxOverlay`.

Nothing is up before all of it is right. What is wrong is put right in place: the bridge of a network is not taken down for it,
nor are guests unplugged.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv6Address

from ucloud.base.errors import Temporary
from ucloud.driver.overlay import iproute, names
from ucloud.driver.overlay.iproute import Address, Link
from ucloud.model.wiring import Segment

NAME = re.compile(rf"(?:{names.BRIDGE}|{names.VXLAN})([0-9a-f]{{6}})")
VXLAN_PORT = 4789
VXLAN_OVERHEAD = 70  # bytes: Ethernet, IPv6, UDP and VXLAN headers
VXLAN_TTL = 8  # hosts may be some routers apart; without it multicast goes no further than the first
BRIDGE_OPTIONS = {"mcast_snooping": 0, "forward_delay": 0, "stp_state": 0}
ALWAYS = frozenset({names.GATEWAY, names.METADATA_LOCAL, names.METADATA6, names.METADATA4})  # whatever the network
PUBLIC, PRIVATE = "ucloud public network", "ucloud private network"  # the alias of a bridge


class Segments:
    name = "network"

    def __init__(self, uplink: str, address: str) -> None:
        """uplink: the interface to the other hosts. address: this host's on it."""
        self.uplink, self.address = uplink, str(IPv6Address(address))

    def actual(self) -> Mapping[str, Segment | None]:
        links = iproute.links()
        vnis = {int(match[1], 16) for name in links if (match := NAME.fullmatch(name))}
        return {f"{vni}": self._segment(vni, links) for vni in sorted(vnis)}

    def add(self, things: Sequence[Segment]) -> None:
        links = iproute.links([self.uplink, *(name for segment in things for name in both(segment.vni))])
        wrong = [segment for segment in things if not self._is_right(segment, links)]
        for segment in wrong:
            self._check_mtu(segment, links)
        iproute.change([command for segment in wrong for command in self._make(segment, links)])
        for segment in wrong:
            for setting, value in settings(segment.vni):
                iproute.set_kernel(setting, value)
        links = iproute.links([name for segment in wrong for name in both(segment.vni)])
        iproute.change([command for segment in wrong for command in mend(segment, links)])
        try:
            iproute.change([command for segment in wrong for command in bring_up(segment, links)])
        except Temporary as error:
            raise Temporary(f"{error.message}{groups_hint()}", retry_s=10) from error

    def remove(self, keys: Sequence[str]) -> None:
        links = iproute.links([name for key in keys for name in both(int(key))])
        iproute.change([f"link delete {name}" for name in links])

    def _segment(self, vni: int, links: Mapping[str, Link]) -> Segment | None:
        bridge, vxlan = (links.get(name, Link()) for name in both(vni))
        gateways = {f"{address.local}/{address.prefixlen}" for address in bridge.addr_info if address.local not in ALWAYS}
        segment = Segment(
            vni=vni,
            group=vxlan.linkinfo.info_data.get("group6", ""),
            mtu=bridge.mtu,
            gateways=tuple(sorted(gateways, key=lambda gateway: (":" not in gateway, gateway))),  # IPv6 first
            public=bridge.ifalias == PUBLIC,
        )
        return segment if self._is_right(segment, links) else None

    def _is_right(self, segment: Segment, links: Mapping[str, Link]) -> bool:
        there = all(name in links for name in both(segment.vni))
        return there and not any(self._differences(segment, links)) and iproute.kernel_says(settings(segment.vni))

    def _differences(self, segment: Segment, links: Mapping[str, Link]) -> Iterator[str]:
        yield from self._make(segment, links)
        yield from mend(segment, links)
        yield from bring_up(segment, links)

    def _make(self, segment: Segment, links: Mapping[str, Link]) -> Iterator[str]:
        """The interfaces, down. A VXLAN that is another's is not changed but made anew: most of it cannot be changed."""
        bridge, vxlan = both(segment.vni)
        there = links.get(bridge, Link())
        if there.kind != "bridge":
            if there.ifname:
                yield f"link delete {bridge}"
            yield f"link add {bridge} address {names.GATEWAY_MAC} mtu {segment.mtu} type bridge"
        there = links.get(vxlan, Link())
        wanted = {
            "id": segment.vni,
            "group6": segment.group,
            "local6": self.address,
            "link": self.uplink,
            "port": VXLAN_PORT,
            "ttl": VXLAN_TTL,
            "learning": True,
        }
        if there.kind != "vxlan" or not wanted.items() <= there.linkinfo.info_data.items():
            if there.ifname:
                yield f"link delete {vxlan}"
            yield (
                f"link add {vxlan} mtu {segment.mtu} type vxlan id {segment.vni} group {segment.group} local {self.address}"
                f" dev {self.uplink} dstport {VXLAN_PORT} ttl {VXLAN_TTL} learning"
            )

    def _check_mtu(self, segment: Segment, links: Mapping[str, Link]) -> None:
        if self.uplink not in links:
            raise Temporary(f"there is no interface {self.uplink}, which is to lead to the other hosts")
        if (has := links[self.uplink].mtu) < (needs := segment.mtu + VXLAN_OVERHEAD):
            raise Temporary(f"{self.uplink} has an MTU of {has} bytes; this network needs {needs} ([network] underlay_mtu)")


def mend(segment: Segment, links: Mapping[str, Link]) -> Iterator[str]:
    """What turns both interfaces into what they should be, but for being up. A bridge's MAC is set only where it is another:
    the kernel forgets all neighbours at that."""
    bridge, vxlan = both(segment.vni)
    there, alias = links[bridge], PUBLIC if segment.public else PRIVATE
    if there.address != names.GATEWAY_MAC:
        yield f"link set {bridge} address {names.GATEWAY_MAC}"
    if there.mtu != segment.mtu:
        yield f"link set {bridge} mtu {segment.mtu}"
    if there.ifalias != alias:
        yield f'link set {bridge} alias "{alias}"'
    if not BRIDGE_OPTIONS.items() <= there.linkinfo.info_data.items():
        yield f"link set {bridge} type bridge " + " ".join(f"{name} {value}" for name, value in BRIDGE_OPTIONS.items())
    yield from mend_addresses(segment, there)
    there = links[vxlan]
    if there.mtu != segment.mtu:
        yield f"link set {vxlan} mtu {segment.mtu}"
    if there.master != bridge:
        yield f"link set {vxlan} master {bridge}"


def mend_addresses(segment: Segment, bridge: Link) -> Iterator[str]:
    wanted, there = set(addresses(segment)), set(bridge.addr_info)
    for address in sorted(there - wanted):
        yield f"address delete {address.local}/{address.prefixlen} dev {bridge.ifname}"
    for address in sorted(wanted - there):
        options = (
            " nodad" if ":" in address.local else "",
            " noprefixroute" if address.noprefixroute else "",
            " preferred_lft 0" if address.deprecated else "",
        )
        where = f"dev {bridge.ifname} scope {address.scope}"
        yield f"address add {address.local}/{address.prefixlen} {where}{''.join(options)}"


def addresses(segment: Segment) -> Iterator[Address]:
    """Only fe80::/64 has a route: a host reaches no VM of the network but by the routes of its plugs. What a host says by
    itself, as router advertisements, comes from the gateway's addresses."""
    yield Address(names.GATEWAY, 64, "link")
    for gateway in segment.gateways:
        local, _, length = gateway.partition("/")
        yield Address(local, int(length), noprefixroute=True)
    yield Address(names.METADATA_LOCAL, 128, "link", noprefixroute=True, deprecated=True)
    yield Address(names.METADATA6, 64, noprefixroute=True, deprecated=True)  # on-link by router advertisement
    if any("." in gateway for gateway in segment.gateways):
        yield Address(names.METADATA4, 32, "link", noprefixroute=True)  # the last one, so that nothing else comes from it


def bring_up(segment: Segment, links: Mapping[str, Link]) -> Iterator[str]:
    for name in both(segment.vni):
        if not links[name].up:
            yield f"link set {name} up"


def both(vni: int) -> tuple[str, str]:
    return names.bridge(vni), names.vxlan(vni)


def settings(vni: int) -> Iterator[tuple[str, str]]:
    """The host speaks on the bridge, as the router there and as nobody else; behind the VXLAN it is deaf and dumb."""
    bridge, vxlan = both(vni)
    yield f"ipv6/conf/{bridge}/disable_ipv6", "0"
    yield f"ipv6/conf/{bridge}/addr_gen_mode", "1"  # none but those given here
    yield f"ipv6/conf/{bridge}/accept_ra", "0"
    yield f"ipv4/conf/{bridge}/arp_ignore", "1"  # no answer for addresses that are not this network's
    yield from iproute.silence(vxlan)


def groups_hint() -> str:
    """The kernel keeps the groups of all VXLANs in the memory of one socket."""
    limit = iproute.kernel_value("core/optmem_max")
    has = f" (now {limit})" if limit else " on the machine itself"
    return f"; if it lacks memory: each network takes 56 bytes of net.core.optmem_max{has}, raise it with sysctl"
