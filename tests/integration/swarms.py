"""Floods that pretend to come from many guests, or to be about many: each frame would leave something behind in a table that
others need (the host's neighbours, the bridges' MACs and groups). Sent by test_attacks.py, by ALICE."""

from collections.abc import Callable
from ipaddress import IPv6Address

from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLDMultAddrRec,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.packet import Packet

from tests.integration.attack_site import ALICE, RED
from tests.integration.hostile import ALL, ALL_MAC, said, udp
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC


def stranger(number: int) -> str:
    """A link-local address that nobody has."""
    return str(IPv6Address("fe80::5eed:0:0:1") + number)


def group(number: int) -> str:
    return str(IPv6Address("ff05::5eed:0") + number)


def target(number: int) -> str:
    """In the network, and nobody's."""
    return str(IPv6Address(RED.ipv6.partition("/")[0]) + 0x5EED0000 + number)


def solicitation(by: str, about: str, to: str = ALL) -> Packet:
    return IPv6(src=by, dst=to, hlim=255) / ICMPv6ND_NS(tgt=about) / ICMPv6NDOptSrcLLAddr(lladdr=ALICE.mac)


def advertisement(number: int) -> Packet:
    own = ICMPv6NDOptDstLLAddr(lladdr=ALICE.mac)
    return IPv6(src=stranger(number), dst=ALL, hlim=255) / ICMPv6ND_NA(tgt=stranger(number), R=0) / own


def report(number: int) -> Packet:
    """Of a listener that wants to hear a group."""
    wanted = ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(rtype=4, dst=group(number))])
    return IPv6(src=ALICE.link_local, dst="ff02::16", hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / wanted


SWARMS: dict[str, tuple[Callable[[int], Packet], str]] = {  # packets by number, and the MAC that they are sent to
    "solicitations by many": (lambda number: solicitation(stranger(number), GATEWAY, GATEWAY), GATEWAY_MAC),
    "solicitations by many, to all": (lambda number: solicitation(stranger(number), GATEWAY), ALL_MAC),
    "solicitations of many": (lambda number: solicitation(ALICE.link_local, target(number)), ALL_MAC),
    "advertisements of many": (advertisement, ALL_MAC),
    "reports of many groups": (report, ALL_MAC),
    "echo by many": (lambda number: IPv6(src=stranger(number), dst=GATEWAY) / ICMPv6EchoRequest(), GATEWAY_MAC),
    "echo by many, to all": (lambda number: IPv6(src=stranger(number), dst=ALL) / ICMPv6EchoRequest(), ALL_MAC),
    "questions by many": (lambda number: IPv6(src=stranger(number), dst=GATEWAY) / udp(53), GATEWAY_MAC),
    "packets to many": (lambda number: IPv6(src=ALICE.ip6, dst=target(number)) / udp(), GATEWAY_MAC),
    "packets to many groups": (lambda number: IPv6(src=ALICE.ip6, dst=group(number)) / udp(), ALL_MAC),
}


def frame(swarm: str, number: int) -> bytes:
    packet, to = SWARMS[swarm]
    return bytes(said(packet(number), ALICE, to))
