"""What a hostile guest may say to others on its network, as data: each must come nowhere (hostile.py)."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Reply
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    ICMPv6ND_INDAdv,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.integration.attack_site import (
    ALICE,
    BLUE_GUEST,
    BOB,
    DAEMON_PORT,
    DARK,
    DAVE,
    DIM_GUEST,
    ERIN,
    MALLORY,
    RED,
    ROUTER,
    TRUDY,
    WORLD,
    Guest,
)
from tests.integration.hostile import (
    ALL,
    ALL_MAC,
    BROADCAST,
    HOST,
    MARK,
    NOBODY,
    NOBODY_MAC,
    Attack,
    attack,
    fragments,
    ip6,
    parts,
    said,
    udp,
)
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC


def attacks() -> Iterator[Attack]:
    yield from false_senders()
    yield from routers()
    yield from neighbours()
    yield from dhcp_servers()
    yield from ipv4()
    yield from ethernet()
    yield from headers()


def false_senders() -> Iterator[Attack]:
    for whose, mac in (
        ("a neighbour's", ALICE.mac),
        ("the gateway's", GATEWAY_MAC),
        ("nobody's", NOBODY_MAC),
    ):
        yield attack(f"{whose} MAC", Ether(src=mac, dst=ALL_MAC) / IPv6(src=MALLORY.ip6, dst=ALL) / udp())
    for whose, address in {
        "a neighbour's": ALICE.ip6,
        "a remote neighbour's": BOB.ip6,
        "nobody's": NOBODY,
        "the gateway's link-local": GATEWAY,
        "the gateway's": RED.gateway,
        "a neighbour's link-local": ALICE.link_local,
        "a remote neighbour's link-local": BOB.link_local,
        "another network's": BLUE_GUEST.ip6,
        "a host's": HOST,
        "no": "::",
        "the loopback's": "::1",
        "an IPv4": "::ffff:10.3.0.16",
        "a link-local, of another subnet,": "fe80:0:0:1::5",
        "the subnet routers'": "fe80::",
    }.items():
        yield attack(f"{whose} address", said(IPv6(src=address, dst=ALL) / udp()))
    yield attack("a neighbour's MAC and address", Ether(src=ALICE.mac, dst=BOB.mac) / IPv6(src=ALICE.ip6, dst=BOB.ip6) / udp())
    yield attack(
        "echo in a neighbour's name", said(IPv6(src=ALICE.ip6, dst=BOB.ip6) / ICMPv6EchoRequest(data=MARK), to=BOB.mac)
    )
    yield parts(
        "a false sender, then more of the packet", *fragments(IPv6(src=ALICE.ip6, dst=ALL) / udp() / Raw(bytes(64)), 24)
    )


def advertisement(by: Guest = MALLORY, to: str = ALL) -> Packet:
    prefix = ICMPv6NDOptPrefixInfo(prefix="fd00:bad::", prefixlen=64)
    return ip6(by, to) / ICMPv6ND_RA(routerlifetime=1800) / prefix / ICMPv6NDOptSrcLLAddr(lladdr=by.mac)


def behind(*headers: Packet) -> Packet:
    """A router advertisement behind these."""
    packet = ip6()
    for header in headers:
        packet = packet / header
    return said(packet / advertisement().payload)


def routers() -> Iterator[Attack]:
    options, routing = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]), IPv6ExtHdrRouting(addresses=[ALL])
    hop = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    long = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(200))])
    yield attack("router advertisement", said(advertisement()))
    yield attack("router advertisement to one", said(advertisement(to=ALICE.link_local), to=ALICE.mac))
    yield attack("router advertisement as the gateway", said(IPv6(src=GATEWAY, dst=ALL, hlim=255) / advertisement().payload))
    yield attack(
        "router advertisement from an address of its own choice",
        said(IPv6(src="fe80::5", dst=ALL, hlim=255) / advertisement().payload),
    )
    yield attack("router advertisement behind hop-by-hop options", behind(hop))
    yield attack("router advertisement behind destination options", behind(options))
    yield attack("router advertisement behind a routing header", behind(routing))
    yield attack("router advertisement behind all of them", behind(hop, options, routing, options))
    yield attack("router advertisement behind twenty headers", behind(*[options] * 20))
    yield attack("router advertisement behind long options", behind(long, long))
    yield attack("router advertisement as an atomic fragment", behind(IPv6ExtHdrFragment(id=1)))
    yield attack(
        "router advertisement as an atomic fragment in a fragment", behind(IPv6ExtHdrFragment(id=1), IPv6ExtHdrFragment(id=2))
    )
    yield parts("router advertisement in fragments", *fragments(advertisement(), 16))
    yield parts("router advertisement in fragments behind options", *fragments(advertisement(), 16, options))
    hidden = ip6() / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]) / advertisement().payload
    yield parts("router advertisement in the second fragment", *fragments(hidden, 16))
    yield parts(
        "router advertisement with a fragment's header in a fragment", *fragments(behind(IPv6ExtHdrFragment(id=3))[IPv6], 8)
    )
    over, under = list(fragments(advertisement(), 16)), list(fragments(ip6() / ICMPv6EchoRequest(data=bytes(40)), 16))
    yield parts("router advertisement over an echo's fragments", over[0], under[1], over[1])
    yield attack("router advertisement with a VLAN tag", Ether(src=MALLORY.mac, dst=ALL_MAC) / Dot1Q(vlan=1) / advertisement())
    yield attack(
        "router advertisement with a priority tag", Ether(src=MALLORY.mac, dst=ALL_MAC) / Dot1Q(vlan=0) / advertisement()
    )
    tags = Dot1AD(vlan=5) / Dot1Q(vlan=6)
    yield attack("router advertisement with two VLAN tags", Ether(src=MALLORY.mac, dst=ALL_MAC) / tags / advertisement())
    yield attack(
        "router advertisement in SNAP",
        Ether(src=MALLORY.mac, dst=ALL_MAC, type=200) / LLC() / SNAP(code=0x86DD) / advertisement(),
    )
    redirect = ICMPv6ND_Redirect(tgt=MALLORY.link_local, dst=WORLD) / ICMPv6NDOptDstLLAddr(lladdr=MALLORY.mac)
    yield attack("redirect", said(ip6(to=ALICE.ip6) / redirect, to=ALICE.mac))
    yield attack("redirect as the gateway", said(IPv6(src=GATEWAY, dst=ALICE.ip6, hlim=255) / redirect, to=ALICE.mac))
    yield parts("redirect in fragments", *fragments(ip6(to=ALL) / redirect, 16))
    yield attack("router advertisement of a private network", said(advertisement(TRUDY), TRUDY), by=TRUDY)
    as_gateway = IPv6(src=GATEWAY, dst=ALL, hlim=255) / advertisement(ROUTER).payload
    yield attack("router advertisement of one allowed to, as the gateway", said(as_gateway, ROUTER), by=ROUTER)
    for kind, name in {
        138: "renumbering of routers",
        151: "multicast router",
        149: "certificate of a router",
        153: "end of a router",
    }.items():
        yield attack(name, said(ip6() / ICMPv6Unknown(type=kind, msgbody=bytes(20))))
    yield attack("multicast querier", said(ip6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / ICMPv6MLQuery()))


def neighbours() -> Iterator[Attack]:
    own, theirs = ICMPv6NDOptDstLLAddr(lladdr=MALLORY.mac), ICMPv6NDOptDstLLAddr(lladdr=ALICE.mac)
    for whose, address in {
        "a neighbour's": ALICE.ip6,
        "a remote neighbour's link-local": BOB.link_local,
        "the gateway's": RED.gateway,
        "the gateway's link-local": GATEWAY,
        "nobody's": NOBODY,
    }.items():
        yield attack(f"advertisement of {whose} address", said(ip6() / ICMPv6ND_NA(tgt=address, R=0) / own))
        yield attack(
            f"question whether {whose} address is free", said(IPv6(src="::", dst=ALL, hlim=255) / ICMPv6ND_NS(tgt=address))
        )
    yield attack("advertisement of a neighbour's address without a MAC", said(ip6() / ICMPv6ND_NA(tgt=ALICE.ip6, R=0)))
    yield attack("advertisement with a neighbour's MAC", said(ip6() / ICMPv6ND_NA(tgt=MALLORY.ip6) / theirs))
    yield attack("advertisement with two MACs", said(ip6() / ICMPv6ND_NA(tgt=MALLORY.ip6) / own / theirs))
    yield attack("advertisement from nowhere", said(IPv6(src="::", dst=ALL, hlim=255) / ICMPv6ND_NA(tgt=MALLORY.ip6) / own))
    yield attack("advertisement behind options", said(ip6() / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt=ALICE.ip6) / own))
    yield parts("advertisement in fragments", *fragments(ip6() / ICMPv6ND_NA(tgt=ALICE.ip6) / own, 8))
    asked = ICMPv6ND_NS(tgt=ALICE.ip6)
    source, false = ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac), ICMPv6NDOptSrcLLAddr(lladdr=BOB.mac)
    yield attack("solicitation with a neighbour's MAC", said(ip6() / asked / false))
    yield attack("solicitation in a neighbour's name", said(IPv6(src=BOB.ip6, dst=ALL, hlim=255) / asked / source))
    yield attack("solicitation with two MACs", said(ip6() / asked / source / false))
    yield parts("solicitation in fragments", *fragments(ip6() / asked / false, 8))
    yield attack("router solicitation with a neighbour's MAC", said(ip6() / ICMPv6ND_RS() / false))
    yield attack(
        "router solicitation in a neighbour's name", said(IPv6(src=BOB.ip6, dst=ALL, hlim=255) / ICMPv6ND_RS() / source)
    )
    yield attack("router solicitation with two MACs", said(ip6() / ICMPv6ND_RS() / source / false))
    pretended = (
        IPv6(src=MALLORY.link_local, dst=ALL, hlim=255, plen=32) / IPv6ExtHdrDestOpt() / asked / Raw(bytes([14, 1]) + bytes(6))
    )
    yield attack("solicitation behind options, with a nonce behind its end", said(pretended))
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    yield attack("listener in a neighbour's name", said(IPv6(src=BOB.link_local, dst=ALL, hlim=1) / alert / ICMPv6MLReport2()))
    yield attack("inverse neighbour advertisement", said(ip6() / ICMPv6ND_INDAdv() / source))


def dhcp_servers() -> Iterator[Attack]:
    reply = DHCP6_Reply(trid=1) / Raw(MARK)
    yield attack("DHCPv6 answer", said(ip6() / UDP(sport=547, dport=546) / reply))
    yield attack("DHCPv6 answer to one", said(ip6(to=ALICE.link_local) / UDP(sport=547, dport=546) / reply, to=ALICE.mac))
    yield attack("DHCPv6 answer from another port", said(ip6() / UDP(sport=5000, dport=546) / reply))
    yield attack("DHCPv6 relay", said(ip6() / UDP(sport=547, dport=547) / reply))
    yield attack("DHCPv6 answer behind options", said(ip6() / IPv6ExtHdrDestOpt() / UDP(sport=547, dport=546) / reply))
    cut = ip6() / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]) / UDP(sport=547, dport=546) / reply / Raw(bytes(80))
    yield parts("DHCPv6 answer behind options that a fragment cuts", *fragments(cut, 8))
    yield parts("DHCPv6 answer in fragments", *fragments(ip6() / UDP(sport=547, dport=546) / reply / Raw(bytes(80)), 16))
    offer = BOOTP(op=2, yiaddr=DAVE.ip4, siaddr=TRUDY.ip4) / DHCP(options=[("message-type", "offer"), "end"])
    own = IP(src=TRUDY.ip4, dst="255.255.255.255")
    yield attack("DHCPv4 answer", said(own / UDP(sport=67, dport=68) / offer, TRUDY, BROADCAST), by=TRUDY)
    yield attack("DHCPv4 answer from another port", said(own / UDP(sport=5000, dport=68) / offer, TRUDY, BROADCAST), by=TRUDY)
    yield attack(
        "DHCPv4 answer from nowhere",
        said(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=67, dport=68) / offer, TRUDY, BROADCAST),
        by=TRUDY,
    )
    yield attack(
        "DHCPv4 answer as the gateway",
        said(IP(src=DARK.gateway4, dst="255.255.255.255") / UDP(sport=67, dport=68) / offer, TRUDY, BROADCAST),
        by=TRUDY,
    )
    relayed = own / UDP(sport=67, dport=67) / offer
    yield attack("DHCPv4 answer to a relay", said(relayed, TRUDY, BROADCAST), by=TRUDY)
    split = bytes(UDP(sport=67, dport=68) / offer)
    first, rest = own.copy(), own.copy()
    first.flags, rest.frag = "MF", 8
    first.proto = rest.proto = 17
    yield attack("DHCPv4 answer in fragments", said(first / Raw(split[:64]), TRUDY, BROADCAST), by=TRUDY)
    with_options = IP(src=TRUDY.ip4, dst="255.255.255.255", options=[b"\x01\x01\x01\x00"])
    yield attack(
        "DHCPv4 answer behind options", said(with_options / UDP(sport=67, dport=68) / offer, TRUDY, BROADCAST), by=TRUDY
    )


def ipv4() -> Iterator[Attack]:
    for whose, address in {
        "a neighbour's": DAVE.ip4,
        "the gateway's": DARK.gateway4,
        "no": "0.0.0.0",
        "another network's": DIM_GUEST.ip4,
    }.items():
        yield attack(f"{whose} IPv4 address", said(IP(src=address, dst=ERIN.ip4) / udp(), TRUDY, ERIN.mac), by=TRUDY)
    yield attack("IPv4 where there is none", said(IP(src="10.3.0.16", dst="10.3.0.17") / udp(), to=ALICE.mac))
    for name, fields in {
        "ARP for a neighbour": {"op": 2, "psrc": DAVE.ip4, "hwsrc": TRUDY.mac, "pdst": ERIN.ip4},
        "ARP for the gateway": {"op": 2, "psrc": DARK.gateway4, "hwsrc": TRUDY.mac, "pdst": ERIN.ip4},
        "ARP with a neighbour's MAC": {"op": 2, "psrc": TRUDY.ip4, "hwsrc": DAVE.mac, "pdst": ERIN.ip4},
        "ARP announcement of a neighbour's address": {"op": 1, "psrc": DAVE.ip4, "hwsrc": TRUDY.mac, "pdst": DAVE.ip4},
        "ARP question whether a neighbour's address is free": {
            "op": 1,
            "psrc": "0.0.0.0",
            "hwsrc": TRUDY.mac,
            "pdst": DAVE.ip4,
        },
        "ARP from nowhere": {"op": 2, "psrc": "0.0.0.0", "hwsrc": TRUDY.mac, "pdst": TRUDY.ip4},
        "reverse ARP": {"op": 4, "psrc": TRUDY.ip4, "hwsrc": TRUDY.mac, "pdst": TRUDY.ip4},
    }.items():
        yield attack(name, said(ARP(**fields), TRUDY, BROADCAST), by=TRUDY)
    yield attack(
        "ARP where there is no IPv4", said(ARP(op=2, psrc="10.3.0.16", hwsrc=MALLORY.mac, pdst="10.3.0.17"), to=BROADCAST)
    )
    for name, header in {
        "hardware": "0006 0800 06 04 0002",
        "protocol": "0001 86dd 06 04 0002",
        "length of MACs": "0001 0800 08 04 0002",
        "length of addresses": "0001 0800 06 10 0002",
        "operation": "0001 0800 06 04 0009",
    }.items():
        own = bytes.fromhex(TRUDY.mac.replace(":", "")) + IPv4Address(TRUDY.ip4).packed + bytes(10)
        yield attack(
            f"ARP of another {name}",
            Ether(src=TRUDY.mac, dst=BROADCAST, type=0x0806) / Raw(bytes.fromhex(header) + own),
            by=TRUDY,
        )


def ethernet() -> Iterator[Attack]:
    for name, kind in {
        "802.1X": 0x888E,
        "MPLS": 0x8847,
        "PPPoE": 0x8863,
        "RARP": 0x8035,
        "802.1ah": 0x88E7,
        "LLDP": 0x88CC,
        "homegrown": 0x88B5,
    }.items():
        yield attack(f"frame of {name}", Ether(src=MALLORY.mac, dst=BROADCAST, type=kind) / Raw(bytes(46)))
    bridges = "01:80:c2:00:00:00"
    yield attack(
        "spanning tree", Ether(src=MALLORY.mac, dst=bridges, type=38) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(rootid=0)
    )
    yield attack(
        "spanning tree to all",
        Ether(src=MALLORY.mac, dst=BROADCAST, type=38) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(rootid=0),
    )
    beside = "01:80:c2:00:00:0e"  # LLDP's: a bridge gives such frames to its host as if there were no bridge
    to_daemon = IP(src=TRUDY.ip4, dst=DARK.gateway4) / udp(DAEMON_PORT)
    yield attack("packet past the bridge to a daemon", said(to_daemon, TRUDY, beside), by=TRUDY)


def headers() -> Iterator[Attack]:
    own = IPv6(src=MALLORY.ip6, dst=ALICE.ip6)
    yield attack("hop-by-hop options", said(own / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / udp(), to=ALICE.mac))
    hop = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    yield attack("echo behind hop-by-hop options", said(own / hop / ICMPv6EchoRequest(data=MARK), to=ALICE.mac))
    yield attack("source routing", said(own / IPv6ExtHdrRouting(addresses=[BOB.ip6]) / udp(), to=ALICE.mac))
    yield attack(
        "headers that never end",
        said(IPv6(src=MALLORY.ip6, dst=ALICE.ip6, nh=60) / Raw(bytes([60, 200]) + bytes(14)), to=ALICE.mac),
    )
    yield attack("a packet shorter than its header", Ether(src=MALLORY.mac, dst=ALICE.mac, type=0x86DD) / Raw(bytes(own)[:30]))
