"""What attacks are made of: link_attacks.py and host_attacks.py have them all, test_attacks.py sends them on attack_site.py.

Every frame carries MARK, in what it brings or behind it (Ethernet pads; IP says where it ends). MALLORY is on a public network,
TRUDY on a private one with IPv4.
"""

from collections.abc import Iterator
from typing import NamedTuple

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.integration.attack_site import (
    MALLORY,
    Guest,
)
from tests.namespaces import Underlay

MARK = b"<attack>"
NUMBER = 0x5EED5EED  # of a first segment: the answer to it has the next one
SIGNS = (MARK, (NUMBER + 1).to_bytes(4, "big"))
ALL_MAC, ALL = "33:33:00:00:00:01", "ff02::1"
BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY_MAC, NOBODY, NOBODY_LOCAL = "02:00:00:00:00:99", "fd00:10::99", "fe80::99"
HOST, OTHER_HOST = Underlay.address(1), Underlay.address(2)


BRIDGES = "host 1, host 1 private"  # what goes to the host may reach its bridges, but nothing behind them
WIRES = "underlay, world"  # what comes from outside is seen there in any case


class Attack(NamedTuple):
    """by: a guest, or the wire that it comes from. may: where it may be heard. whole: it is nothing unless all of its frames
    come."""

    name: str
    by: Guest | str
    frames: tuple[bytes, ...]
    may: frozenset[str]
    whole: bool = False


def attack(name: str, *packets: Packet, by: Guest | str = MALLORY, may: str = "") -> Attack:
    """may: with commas."""
    return Attack(name, by, tuple(bytes(packet) + MARK for packet in packets), frozenset(may.split(", ")))


def parts(name: str, *packets: Packet) -> Attack:
    return attack(name, *packets)._replace(whole=True)


def said(packet: Packet, by: Guest = MALLORY, to: str = ALL_MAC) -> Packet:
    return Ether(src=by.mac, dst=to) / packet


def ip6(by: Guest = MALLORY, to: str = ALL) -> Packet:
    return IPv6(src=by.link_local, dst=to, hlim=255)


def udp(port: int = 9) -> Packet:
    return UDP(sport=9999, dport=port) / Raw(MARK)


def fragments(packet: Packet, first: int, *before: Packet) -> Iterator[Packet]:
    """In two, the first one `first` bytes long. before: headers that both have."""
    read = IPv6(bytes(packet))
    whole, number, header = bytes(read.payload), read.nh, IPv6(src=packet.src, dst=packet.dst, hlim=255)
    for more in before:
        header = header / more
    yield said(header / IPv6ExtHdrFragment(nh=number, id=7, offset=0, m=1) / Raw(whole[:first]))
    yield said(header / IPv6ExtHdrFragment(nh=number, id=7, offset=first // 8, m=0) / Raw(whole[first:]))
