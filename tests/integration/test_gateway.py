"""Every host is the gateway of its guests, all with the same MAC and addresses: a guest's question has one answer."""

import os
import select
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from tests.integration.attack_site import ALICE, BOB, CAROL, DARK, DAVE, DEADLINE_S, ERIN, MTU, RED, Guest, Site, site
from tests.integration.hostile import ALL, BROADCAST, MARK, said
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC, METADATA4, METADATA6, METADATA_LOCAL
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.model.wiring import Service

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SERVICE = Service(vni=RED.vni, ipv6=RED.ipv6, ipv4="", mtu=MTU, slaac=True, routed=True, domain="red.ucloud.internal")
ADDRESSES = GATEWAY, RED.gateway, METADATA_LOCAL, METADATA6
QUESTIONS = ((ICMPv6ND_RS(), "ff02::2"), *((ICMPv6ND_NS(tgt=address), ALL) for address in ADDRESSES))
ONE_OF_EACH = Counter(["router", *ADDRESSES])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    with site(ports=()) as place, dnsmasq(place, tmp_path):
        yield place


@contextmanager
def dnsmasq(place: Site, directory: Path) -> Iterator[None]:
    with ExitStack() as stack:
        for number, host in enumerate(place.hosts, 1):
            run_dir = directory / f"h{number}"
            stack.callback(
                lambda run_dir=run_dir: dnsmasq_process.end(list(dnsmasq_process.find(run_dir.resolve() / "resolver")))
            )
            with host:
                DnsmasqResolver(run_dir, []).services.add([SERVICE])
        yield


def test_of_three_hosts_one_answers(place: Site) -> None:
    asking = {guest: f"fe80::a:{guest.host}" for guest in (ALICE, BOB, CAROL)}
    until_all_answer(place, asking)
    asking = {guest: f"fe80::b:{guest.host}" for guest in asking}
    ask(place, asking)
    heard = place.heard()
    wait_s = time.monotonic() + DEADLINE_S
    while not all(answers(heard, guest, local) >= ONE_OF_EACH for guest, local in asking.items()):
        assert time.monotonic() < wait_s, {guest.name: answers(heard, guest, local) for guest, local in asking.items()}
        select.select([guest.descriptor for guest in asking], [], [], 1.0)
        heard = {name: frames + heard[name] for name, frames in place.heard().items()}
    heard = {name: frames + heard[name] for name, frames in place.heard().items()}
    for guest, local in asking.items():
        assert answers(heard, guest, local) == ONE_OF_EACH
        asked_at = [
            name for name, frames in heard.items() if any(Ether(frame).src == guest.mac and MARK in frame for frame in frames)
        ]
        assert [name for name in asked_at if name.startswith("host")] == [f"host {guest.host}"]
    assert not any(MARK in frame for frame in heard["underlay"])


def test_of_two_hosts_with_ipv4_one_answers(place: Site) -> None:
    addresses = DARK.gateway4, METADATA4
    for guest in (DAVE, ERIN):
        for address in addresses:
            question = ARP(op=1, hwsrc=guest.mac, psrc=guest.ip4, pdst=address)
            place.send(guest, bytes(said(question, guest, BROADCAST)) + MARK)
        heard = place.heard(guest)
        answered = [packet for packet in map(Ether, heard[guest.name]) if ARP in packet and packet[ARP].op == 2]
        assert [(packet.src, packet[ARP].hwsrc, packet[ARP].psrc) for packet in answered] == [
            (GATEWAY_MAC, GATEWAY_MAC, address) for address in addresses
        ]
        assert not any(MARK in frame for frame in heard["underlay"])


def until_all_answer(place: Site, asking: Mapping[Guest, str]) -> None:
    """Servers need a moment to start."""
    silent, deadline_s = dict(asking), time.monotonic() + DEADLINE_S
    while silent:
        assert time.monotonic() < deadline_s, [guest.name for guest in silent]
        ask(place, silent)
        select.select([guest.descriptor for guest in silent], [], [], 1.0)
        heard = place.heard()
        silent = {guest: local for guest, local in silent.items() if "router" not in answers(heard, guest, local)}


def ask(place: Site, asking: Mapping[Guest, str]) -> None:
    """asking: link-local addresses of their own choice."""
    for guest, local in asking.items():
        for question, to in QUESTIONS:
            packet = IPv6(src=local, dst=to, hlim=255) / question / ICMPv6NDOptSrcLLAddr(lladdr=guest.mac)
            place.send(guest, bytes(said(packet, guest)) + MARK)


def answers(heard: Mapping[str, list[bytes]], guest: Guest, local: str) -> Counter[str]:
    """To a guest, at this address: by whom, or what they are about."""
    packets = [packet for packet in map(Ether, heard[guest.name]) if IPv6 in packet and packet[IPv6].dst == local]
    assert all(packet.src == GATEWAY_MAC for packet in packets)
    advertised = Counter(packet[ICMPv6ND_NA].tgt for packet in packets if ICMPv6ND_NA in packet)
    return advertised + Counter("router" for packet in packets if ICMPv6ND_RA in packet)
