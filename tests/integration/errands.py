"""What honest guests send, as data: each must come to where it is meant to. Sent by test_attacks.py on attack_site.py.

Marked as attacks are (hostile.py)."""

from collections.abc import Iterator
from typing import NamedTuple

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Reply, DHCP6_Solicit
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.integration.attack_site import (
    ALICE,
    BLUE_GUEST,
    BOB,
    CAROL,
    DARK,
    DAVE,
    ERIN,
    HOST_MAC,
    MALLORY,
    MTU,
    RED,
    ROUTER,
    WORLD,
    WORLD_MAC,
    Guest,
)
from tests.integration.hostile import ALL, ALL_MAC, BROADCAST, MARK, fragments, said, udp
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC

PRIVATE_LOCAL = "fe80::1d3a:5b7c:9e2f:4a68"  # as guests make them that don't show their MAC (RFC 7217)
ROUTERS = "ff02::2"


class Errand(NamedTuple):
    """to: where each of the frames is heard. by: a guest, or the wire that it comes from."""

    name: str
    by: Guest | str
    frames: tuple[bytes, ...]
    to: frozenset[str]


def errand(name: str, *packets: Packet, to: str, by: Guest | str = MALLORY) -> Errand:
    """to: names of places, with commas."""
    return Errand(name, by, tuple(bytes(packet) + MARK for packet in packets), frozenset(to.split(", ")))


def errands() -> Iterator[Errand]:
    yield from neighbours()
    yield from hosts()
    yield from traffic()
    yield from ipv4()
    yield from private_routers()


def neighbours() -> Iterator[Errand]:
    everybody = "alice, bob, carol, host 1"
    source, own = ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac), ICMPv6NDOptDstLLAddr(lladdr=MALLORY.mac)
    local, nowhere = IPv6(src=MALLORY.link_local, dst=ALL, hlim=255), IPv6(src="::", dst=ALL, hlim=255)
    stable = IPv6(src=PRIVATE_LOCAL, dst=ALL, hlim=255)
    nonce = ICMPv6NDOptUnknown(type=14, len=1, data=b"random")
    yield errand("neighbour solicitation", said(local / ICMPv6ND_NS(tgt=BOB.ip6) / source), to=everybody)
    yield errand("is my address free?", said(nowhere / ICMPv6ND_NS(tgt=MALLORY.ip6)), to=everybody)
    yield errand("is my address free? with a nonce", said(nowhere / ICMPv6ND_NS(tgt=MALLORY.ip6) / nonce), to=everybody)
    yield errand("is my link-local address free?", said(nowhere / ICMPv6ND_NS(tgt=MALLORY.link_local)), to=everybody)
    yield errand("is a stable private address free?", said(nowhere / ICMPv6ND_NS(tgt=PRIVATE_LOCAL)), to=everybody)
    yield errand("solicitation from it", said(stable / ICMPv6ND_NS(tgt=BOB.ip6) / source), to=everybody)
    yield errand("its advertisement", said(stable / ICMPv6ND_NA(tgt=PRIVATE_LOCAL, R=0) / own), to=everybody)
    yield errand("advertisement", said(local / ICMPv6ND_NA(tgt=MALLORY.ip6, R=0) / own), to=everybody)
    unicast = IPv6(src=MALLORY.ip6, dst=BOB.ip6, hlim=255) / ICMPv6ND_NA(tgt=MALLORY.ip6, R=0, S=1)
    yield errand("answer to a question of reachability", said(unicast, to=BOB.mac), to="bob")
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    yield errand(
        "multicast listener",
        said(IPv6(src=MALLORY.link_local, dst="ff02::16", hlim=1) / alert / ICMPv6MLReport2()),
        to=everybody,
    )
    yield errand(
        "multicast listener without address",
        said(IPv6(src="::", dst="ff02::16", hlim=1) / alert / ICMPv6MLReport2()),
        to=everybody,
    )


def hosts() -> Iterator[Errand]:
    """The gateway is on each guest's own host."""
    source = ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac)
    yield errand(
        "router solicitation", said(IPv6(src=MALLORY.link_local, dst=ROUTERS, hlim=255) / ICMPv6ND_RS() / source), to="host 1"
    )
    yield errand(
        "router solicitation without address", said(IPv6(src="::", dst=ROUTERS, hlim=255) / ICMPv6ND_RS()), to="host 1"
    )
    solicit = IPv6(src=MALLORY.link_local, dst="ff02::1:2") / UDP(sport=546, dport=547) / DHCP6_Solicit(trid=1) / Raw(MARK)
    yield errand("DHCPv6 client", said(solicit, to="33:33:00:01:00:02"), to="host 1, port 547 on host 1")
    yield errand("DNS", said(IPv6(src=MALLORY.ip6, dst=RED.gateway) / udp(53), to=GATEWAY_MAC), to="port 53 on host 1")
    for address in (RED.gateway, GATEWAY):
        packet = IPv6(src=MALLORY.link_local if address == GATEWAY else MALLORY.ip6, dst=address) / ICMPv6EchoRequest(data=MARK)
        yield errand(f"echo to {address}", said(packet, to=GATEWAY_MAC), to="mallory")


def traffic() -> Iterator[Errand]:
    for guest in (ALICE, BOB, CAROL):
        header = IPv6(src=MALLORY.ip6, dst=guest.ip6)
        for name, packet in {
            "UDP": udp(),
            "TCP": TCP(sport=9999, dport=80, flags="S") / Raw(MARK),
            "echo": ICMPv6EchoRequest(data=MARK),
            "a packet of another protocol": Raw(MARK),
            "destination options": IPv6ExtHdrDestOpt() / udp(),
            "packet too big": ICMPv6PacketTooBig(mtu=1280) / Raw(MARK),
            "a packet as large as may be": udp() / Raw(bytes(MTU - 40 - 8 - 2 * len(MARK))),
        }.items():
            yield errand(f"{name} to {guest.name}", said(header / packet, to=guest.mac), to=guest.name)
        large = (udp() / Raw(MARK * 250), ICMPv6EchoRequest(data=MARK * 250))
        for name, packet in zip(("UDP", "echo"), large, strict=True):
            split = (Ether(src=MALLORY.mac, dst=guest.mac) / part[IPv6] for part in fragments(header / packet, 1360))
            yield errand(f"{name} in fragments to {guest.name}", *split, to=guest.name)
    own, stable = IPv6(src=MALLORY.ip6, dst="ff02::fb"), IPv6(src=PRIVATE_LOCAL, dst=BOB.link_local)
    yield errand("multicast", said(own / udp(5353), to="33:33:00:00:00:fb"), to="alice, bob, carol")
    yield errand("UDP from a stable private address", said(stable / udp(), to=BOB.mac), to="bob")
    yield errand(
        "UDP to another public network", said(IPv6(src=MALLORY.ip6, dst=BLUE_GUEST.ip6) / udp(), to=GATEWAY_MAC), to="blue"
    )
    yield errand("UDP to the world", said(IPv6(src=MALLORY.ip6, dst=WORLD) / udp(), to=GATEWAY_MAC), to="world, underlay")
    inward = Ether(src=WORLD_MAC, dst=HOST_MAC) / IPv6(src=WORLD, dst=MALLORY.ip6) / udp()
    yield errand("UDP from the world", inward, to="mallory", by="world")


def ipv4() -> Iterator[Errand]:
    for guest in (ERIN, ROUTER):
        header = IP(src=DAVE.ip4, dst=guest.ip4)
        yield errand(f"IPv4 to {guest.name}", said(header / udp(), DAVE, guest.mac), to=guest.name, by=DAVE)
        echo = header / ICMP() / Raw(MARK)
        yield errand(f"IPv4 echo to {guest.name}", said(echo, DAVE, guest.mac), to=guest.name, by=DAVE)
    for name, fields in {
        "ARP": {"op": 1, "psrc": DAVE.ip4, "pdst": ERIN.ip4},
        "ARP answer": {"op": 2, "psrc": DAVE.ip4, "pdst": ERIN.ip4},
        "ARP announcement": {"op": 1, "psrc": DAVE.ip4, "pdst": DAVE.ip4},
        "ARP: is my address free?": {"op": 1, "psrc": "0.0.0.0", "pdst": DAVE.ip4},
    }.items():
        yield errand(name, said(ARP(hwsrc=DAVE.mac, **fields), DAVE, BROADCAST), to="trudy, erin, router", by=DAVE)
    discover = BOOTP(op=1) / DHCP(options=[("message-type", "discover"), "end"]) / Raw(MARK)
    client = IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / discover
    yield errand("DHCPv4 client", said(client, DAVE, BROADCAST), to="host 1 private, port 67 on host 1", by=DAVE)
    yield errand(
        "IPv4 echo to the gateway",
        said(IP(src=DAVE.ip4, dst=DARK.gateway4) / ICMP() / Raw(MARK), DAVE, GATEWAY_MAC),
        to="dave",
        by=DAVE,
    )


def private_routers() -> Iterator[Errand]:
    """Those allowed to."""
    prefix = ICMPv6NDOptPrefixInfo(prefix="fd00:99::", prefixlen=64)
    advertised = (
        IPv6(src=ROUTER.link_local, dst=ALL, hlim=255) / ICMPv6ND_RA() / prefix / ICMPv6NDOptSrcLLAddr(lladdr=ROUTER.mac)
    )
    yield errand("router advertisement of one allowed to", said(advertised, ROUTER, ALL_MAC), to="trudy, dave, erin", by=ROUTER)
    asked = IPv6(src=ERIN.link_local, dst=ROUTERS, hlim=255) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=ERIN.mac)
    yield errand("router solicitation to one on another host", said(asked, ERIN), to="router", by=ERIN)
    reply = IPv6(src=ROUTER.link_local, dst=DAVE.link_local) / UDP(sport=547, dport=546) / DHCP6_Reply()
    yield errand("DHCPv6 answer of one allowed to", said(reply, ROUTER, DAVE.mac), to="dave", by=ROUTER)
    offer = BOOTP(op=2, yiaddr=DAVE.ip4) / DHCP(options=[("message-type", "offer"), "end"])
    for guest in (DAVE, ERIN):
        answer = IP(src=ROUTER.ip4, dst=guest.ip4) / UDP(sport=67, dport=68) / offer
        yield errand(
            f"DHCPv4 answer of one allowed to, to {guest.name}", said(answer, ROUTER, guest.mac), to=guest.name, by=ROUTER
        )
