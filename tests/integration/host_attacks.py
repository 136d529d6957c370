"""What must not come to a host, through it, or from one to another, as data (hostile.py)."""

from collections.abc import Iterator

from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from tests.integration.attack_site import (
    BLUE,
    BLUE_GUEST,
    BOB,
    DAEMON_PORT,
    DARK,
    DAVE,
    DIM,
    DIM_GUEST,
    ERIN,
    HOST_MAC,
    MALLORY,
    RED,
    TRUDY,
    WORLD,
    WORLD_MAC,
)
from tests.integration.hostile import (
    ALL,
    ALL_MAC,
    BRIDGES,
    BROADCAST,
    HOST,
    MARK,
    NUMBER,
    OTHER_HOST,
    WIRES,
    Attack,
    attack,
    fragments,
    ip6,
    said,
    udp,
)
from tests.integration.link_attacks import advertisement
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC


def attacks() -> Iterator[Attack]:
    yield from hosts()
    yield from private_networks()
    yield from outsiders()
    yield from other_hosts()
    yield from own_host()


def hosts() -> Iterator[Attack]:
    to = GATEWAY_MAC
    begin = TCP(sport=9999, dport=DAEMON_PORT, seq=NUMBER, flags="S")
    for whose, address in {
        "the gateway's address": RED.gateway,
        "the gateway's link-local address": GATEWAY,
        "its host's address": HOST,
        "another host's address": OTHER_HOST,
        "another network's gateway": BLUE_GUEST.network.gateway,
        "a private network's gateway": DARK.gateway,
    }.items():
        header = IPv6(src=MALLORY.link_local if address == GATEWAY else MALLORY.ip6, dst=address)
        for protocol, packet in {"UDP": udp(DAEMON_PORT), "TCP": begin}.items():
            yield attack(f"{protocol} to a daemon at {whose}", said(header / packet, to=to), may=BRIDGES)
    echo = ICMPv6EchoRequest(data=MARK)
    for whose, address in {"its host": HOST, "another host": OTHER_HOST, "another network's gateway": BLUE.gateway}.items():
        yield attack(f"echo to {whose}", said(IPv6(src=MALLORY.ip6, dst=address) / echo, to=to), may=BRIDGES)
    yield attack("DNS at its host's address", said(IPv6(src=MALLORY.ip6, dst=HOST) / udp(53), to=to), may=BRIDGES)
    for whose, address in {"its host": HOST, "another host": OTHER_HOST, "the gateway": RED.gateway}.items():
        yield attack(f"VXLAN to {whose}", said(IPv6(src=MALLORY.ip6, dst=address) / tunnel(), to=to), may=BRIDGES)


def private_networks() -> Iterator[Attack]:
    for name, by, address in (
        ("a private network to another on its host", TRUDY, DIM_GUEST.ip6),
        ("a private network to another's gateway", TRUDY, DIM.gateway),
        ("a private network to a public one", TRUDY, MALLORY.ip6),
        ("a public network to a private one", MALLORY, TRUDY.ip6),
        ("a private network to the world", TRUDY, WORLD),
        ("a private network to a host", TRUDY, OTHER_HOST),
        ("a private network to its own host", TRUDY, HOST),
    ):
        header = IPv6(src=by.ip6, dst=address)
        packets = header / udp(DAEMON_PORT), header / ICMPv6EchoRequest(data=MARK)
        yield attack(name, *(said(packet, by, GATEWAY_MAC) for packet in packets), by=by, may=BRIDGES)
    for name, address in (
        ("IPv4 of a private network to another on its host", DIM_GUEST.ip4),
        ("IPv4 of a private network to another's gateway", DIM.gateway4),
        ("IPv4 to a daemon at the gateway's address", DARK.gateway4),
    ):
        packet = IP(src=TRUDY.ip4, dst=address) / udp(DAEMON_PORT)
        yield attack(name, said(packet, TRUDY, GATEWAY_MAC), by=TRUDY, may=BRIDGES)


def tunnel() -> Packet:
    inner = Ether(src=BOB.mac, dst=BROADCAST) / IPv6(src=BOB.ip6, dst=ALL) / udp()
    return UDP(sport=9999, dport=4789) / VXLAN(vni=RED.vni, flags="Instance") / inner


def outsiders() -> Iterator[Attack]:
    """Not told apart from others by where they come from, but by their address."""
    own = IPv6(src=WORLD, dst=HOST)
    for name, packets in {
        "VXLAN from outside": [own / tunnel()],
        "VXLAN from outside in fragments": [part[IPv6] for part in fragments(own / tunnel(), 16)],
        "from outside to a private network": [IPv6(src=WORLD, dst=TRUDY.ip6) / udp()],
        "from outside to one host through another": [IPv6(src=WORLD, dst=OTHER_HOST) / udp(DAEMON_PORT)],
    }.items():
        yield attack(name, *(Ether(src=WORLD_MAC, dst=HOST_MAC) / packet for packet in packets), by="world", may=WIRES)


def other_hosts() -> Iterator[Attack]:
    """What no host sends to another, should one do it all the same; RED is public."""
    asked, source = ICMPv6ND_NS(tgt=GATEWAY), ICMPv6NDOptSrcLLAddr(lladdr=BOB.mac)
    local = IPv6(src=BOB.link_local, dst=ALL, hlim=255)
    dhcp4 = BOOTP() / Raw(MARK)
    for name, network, inner in (
        ("router advertisement", RED, said(advertisement(BOB), BOB)),
        ("router solicitation", RED, said(local / ICMPv6ND_RS() / source, BOB)),
        ("redirect", RED, said(local / ICMPv6ND_Redirect(tgt=BOB.link_local, dst=WORLD), BOB)),
        ("question for the gateway", RED, said(local / asked / source, BOB)),
        ("question for the gateway's other address", RED, said(local / ICMPv6ND_NS(tgt=RED.gateway) / source, BOB)),
        ("advertisement of the gateway", RED, said(local / ICMPv6ND_NA(tgt=GATEWAY), BOB)),
        ("advertisement of the gateway's other address", DARK, said(local / ICMPv6ND_NA(tgt=DARK.gateway), ERIN)),
        ("frame as the gateway", RED, Ether(src=GATEWAY_MAC, dst=ALL_MAC) / local / udp()),
        ("frame to the gateway", RED, Ether(src=BOB.mac, dst=GATEWAY_MAC) / IPv6(src=BOB.ip6, dst=RED.gateway) / udp(53)),
        ("DHCPv6 question", RED, said(local / UDP(sport=546, dport=547) / Raw(MARK), BOB)),
        ("DHCPv6 answer", RED, said(local / UDP(sport=547, dport=9) / Raw(MARK), BOB)),
        ("ARP for the gateway", DARK, said(ARP(op=1, hwsrc=ERIN.mac, psrc=ERIN.ip4, pdst=DARK.gateway4), ERIN, BROADCAST)),
        ("ARP as the gateway", DARK, said(ARP(op=2, hwsrc=ERIN.mac, psrc=DARK.gateway4, pdst=DAVE.ip4), ERIN, BROADCAST)),
        ("VLAN tag", RED, Ether(src=BOB.mac, dst=ALL_MAC) / Dot1Q(vlan=7) / local / udp()),
    ):
        yield attack(f"{name} from another host", between_hosts(network.vni, inner), by="world", may=WIRES)
    for name, inner in {
        "router solicitation": said(local / ICMPv6ND_RS() / source, ERIN),
        "DHCPv4 question": said(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / dhcp4, ERIN, BROADCAST),
    }.items():
        may = f"{WIRES}, trudy, dave, router"  # one of these may be allowed to answer; the host is not asked
        yield attack(f"{name} in a private network from another host", between_hosts(DARK.vni, inner), by="world", may=may)


def between_hosts(vni: int, inner: Packet) -> Packet:
    outer = Ether(src=WORLD_MAC, dst=HOST_MAC) / IPv6(src=OTHER_HOST, dst=HOST) / UDP(sport=9999, dport=4789)
    return outer / VXLAN(vni=vni, flags="Instance") / Raw(bytes(inner) + MARK)


def own_host() -> Iterator[Attack]:
    """What guests may ask their own gateway, and what that answers, is not for other hosts."""
    here, source = "alice, host 1, mallory, port 547 on host 1", ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac)
    dark = "trudy, router, host 1 private, dave"
    for name, packet in {
        "router solicitation": ip6() / ICMPv6ND_RS() / source,
        "question for the gateway": ip6() / ICMPv6ND_NS(tgt=GATEWAY) / source,
        "question for the gateway's other address": ip6() / ICMPv6ND_NS(tgt=RED.gateway) / source,
        "DHCPv6 question": ip6() / UDP(sport=546, dport=547) / Raw(MARK),
    }.items():
        yield attack(f"{name}, heard by other hosts", said(packet), may=here)
    asked = ARP(op=1, hwsrc=DAVE.mac, psrc=DAVE.ip4, pdst=DARK.gateway4)
    yield attack("ARP for the gateway, heard by other hosts", said(asked, DAVE, BROADCAST), by=DAVE, may=dark)
    for name, packet in {
        "router advertisement": IPv6(src=GATEWAY, dst=ALL, hlim=255) / ICMPv6ND_RA(),
        "packet": IPv6(src=RED.gateway, dst=ALL) / udp(),
    }.items():
        frame = Ether(src=GATEWAY_MAC, dst=ALL_MAC) / packet
        yield attack(f"{name} of the gateway, heard by other hosts", frame, by="host 1", may=here)
