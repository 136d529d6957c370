"""What hostile guests must not reach of metadata, and what honest ones must, as data (hostile.py, errands.py). Who asks is
known by its source address alone, so nobody may ask, or answer, in another's name."""

from collections.abc import Iterator

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from tests.integration.attack_site import ALICE, BLUE, BOB, DARK, DAVE, DIM, DIM_GUEST, ERIN, MALLORY, RED, TRUDY, Guest
from tests.integration.errands import PRIVATE_LOCAL, Errand, errand
from tests.integration.host_attacks import between_hosts
from tests.integration.hostile import ALL, BRIDGES, BROADCAST, HOST, NUMBER, OTHER_HOST, WIRES, Attack, attack, said, udp
from ucloud.driver.overlay.names import GATEWAY_MAC, METADATA4, METADATA6, METADATA_LOCAL, METADATA_PORT

WELL_KNOWN = METADATA_LOCAL, METADATA6


def attacks() -> Iterator[Attack]:
    yield from in_anothers_name()
    yield from elsewhere()
    yield from as_the_service()
    yield from other_hosts()
    yield from own_host()


def ask(source: str, to: str, by: Guest) -> Packet:
    """The first packet of a connection; the answer to it is a sign."""
    header = IP(src=source, dst=to) if "." in to else IPv6(src=source, dst=to)
    return said(header / TCP(sport=9999, dport=METADATA_PORT, seq=NUMBER, flags="S"), by, GATEWAY_MAC)


def introduction(source: str, by: Guest) -> Packet:
    """After it the host knows where answers to a link-local address go."""
    question = ICMPv6ND_NS(tgt=METADATA_LOCAL) / ICMPv6NDOptSrcLLAddr(lladdr=by.mac)
    return said(IPv6(src=source, dst=ALL, hlim=255) / question, by)


def in_anothers_name() -> Iterator[Attack]:
    for to in (METADATA_LOCAL, METADATA6, RED.gateway):
        for whose, source in {
            "a neighbour's": ALICE.ip6,
            "a remote neighbour's": BOB.ip6,
            "a neighbour's link-local": ALICE.link_local,
            "a made up link-local": PRIVATE_LOCAL,
        }.items():
            asked = attack(f"metadata at {to} for {whose} address", ask(source, to, MALLORY), may=BRIDGES)
            yield asked._replace(frames=(bytes(introduction(source, MALLORY)), *asked.frames))  # by itself no sign
    for to in (METADATA4, DARK.gateway4):
        yield attack(f"metadata at {to} for a neighbour's address", ask(DAVE.ip4, to, TRUDY), by=TRUDY, may=BRIDGES)


def elsewhere() -> Iterator[Attack]:
    for whose, by, to in (
        ("another network's gateway", MALLORY, BLUE.gateway),
        ("a private network's gateway", MALLORY, DARK.gateway),
        ("its host's address", MALLORY, HOST),
        ("another host's address", MALLORY, OTHER_HOST),
        ("another private network's gateway", TRUDY, DIM.gateway),
        ("another private network's gateway by IPv4", TRUDY, DIM.gateway4),
        ("its host's address, from a private network,", TRUDY, HOST),
    ):
        source = by.ip4 if "." in to else by.ip6
        yield attack(f"metadata at {whose}", ask(source, to, by), by=by, may=BRIDGES)
    for to in WELL_KNOWN:
        yield attack(f"DNS at {to}", said(IPv6(src=MALLORY.ip6, dst=to) / udp(53), to=GATEWAY_MAC), may=BRIDGES)
    dns = IP(src=TRUDY.ip4, dst=METADATA4) / udp(53)
    yield attack(f"DNS at {METADATA4}", said(dns, TRUDY, GATEWAY_MAC), by=TRUDY, may=BRIDGES)


def as_the_service() -> Iterator[Attack]:
    own = ICMPv6NDOptDstLLAddr(lladdr=MALLORY.mac)
    for address in WELL_KNOWN:
        local, nowhere = IPv6(src=MALLORY.link_local, dst=ALL, hlim=255), IPv6(src="::", dst=ALL, hlim=255)
        yield attack(f"advertisement of {address}", said(local / ICMPv6ND_NA(tgt=address, R=0) / own))
        yield attack(f"question whether {address} is free", said(nowhere / ICMPv6ND_NS(tgt=address)))
        yield attack(f"packet from {address}", said(IPv6(src=address, dst=ALICE.ip6) / udp(), to=ALICE.mac))
    for name, fields in {
        "ARP as": {"op": 2, "psrc": METADATA4, "pdst": ERIN.ip4},
        "ARP announcement of": {"op": 1, "psrc": METADATA4, "pdst": METADATA4},
        "ARP question whether it is free:": {"op": 1, "psrc": "0.0.0.0", "pdst": METADATA4},
    }.items():
        yield attack(f"{name} {METADATA4}", said(ARP(hwsrc=TRUDY.mac, **fields), TRUDY, BROADCAST), by=TRUDY)
    packet = IP(src=METADATA4, dst=DAVE.ip4) / udp()
    yield attack(f"packet from {METADATA4}", said(packet, TRUDY, DAVE.mac), by=TRUDY)


def other_hosts() -> Iterator[Attack]:
    """Each has these addresses; none is asked, or answers, for another's guests."""
    local = IPv6(src=BOB.link_local, dst=ALL, hlim=255)
    for address in WELL_KNOWN:
        for name, packet in {"question for": ICMPv6ND_NS(tgt=address), "advertisement of": ICMPv6ND_NA(tgt=address)}.items():
            frame = between_hosts(RED.vni, said(local / packet, BOB))
            yield attack(f"{name} {address} from another host", frame, by="world", may=WIRES)
    for name, asked, of in (("ARP for", ERIN.ip4, METADATA4), ("ARP as", METADATA4, DAVE.ip4)):
        frame = between_hosts(DARK.vni, said(ARP(op=1, hwsrc=ERIN.mac, psrc=asked, pdst=of), ERIN, BROADCAST))
        yield attack(f"{name} {METADATA4} from another host", frame, by="world", may=WIRES)


def own_host() -> Iterator[Attack]:
    source = ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac)
    for address in WELL_KNOWN:
        asked = IPv6(src=MALLORY.link_local, dst=ALL, hlim=255) / ICMPv6ND_NS(tgt=address) / source
        yield attack(f"question for {address}, heard by other hosts", said(asked), may="alice, host 1, mallory")
    asked = ARP(op=1, hwsrc=DAVE.mac, psrc=DAVE.ip4, pdst=METADATA4)
    may = "trudy, router, host 1 private, dave"
    yield attack(f"ARP for {METADATA4}, heard by other hosts", said(asked, DAVE, BROADCAST), by=DAVE, may=may)


def errands() -> Iterator[Errand]:
    """DARK and DIM are private, with IPv4; RED is public, without."""
    for guest, gateway in ((MALLORY, RED.gateway), (DAVE, DARK.gateway), (DIM_GUEST, DIM.gateway)):
        for to in (METADATA6, gateway):
            yield errand(f"{guest.name}'s metadata at {to}", ask(guest.ip6, to, guest), to=guest.name, by=guest)
    for guest, gateway in ((DAVE, DARK.gateway4), (DIM_GUEST, DIM.gateway4)):
        for to in (METADATA4, gateway):
            yield errand(f"{guest.name}'s metadata at {to}", ask(guest.ip4, to, guest), to=guest.name, by=guest)
    for guest, neighbour in ((MALLORY, "alice"), (DAVE, "trudy")):
        own = guest.link_local
        yield errand(f"{guest.name}'s question for {METADATA_LOCAL}", introduction(own, guest), to=neighbour, by=guest)
        yield errand(f"{guest.name}'s metadata at {METADATA_LOCAL}", ask(own, METADATA_LOCAL, guest), to=guest.name, by=guest)
