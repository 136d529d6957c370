"""What hostile guests send comes nowhere, on their host or another, at hosts or on the wire between them; and what guests need
comes through. With the real kernel's filters, on hosts that are namespaces."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.integration import host_attacks, link_attacks, metadata_attacks, swarms
from tests.integration.attack_site import ALICE, BOB, CAROL, DAVE, ERIN, MALLORY, RED, TRUDY, Guest, Site, site
from tests.integration.errands import Errand, errands
from tests.integration.hostile import ALL, BROADCAST, MARK, SIGNS, Attack, said, udp
from tests.namespaces import Namespace
from ucloud.driver.overlay import names

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FLOOD = 50  # frames before each errand of another
ATTACKS = [*link_attacks.attacks(), *host_attacks.attacks(), *metadata_attacks.attacks()]
ERRANDS = [*errands(), *metadata_attacks.errands()]


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as place:
        place.heard()
        yield place


def test_no_attack_comes_anywhere(place: Site) -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) > 100
    assert {attack.name: where for attack in ATTACKS if (where := came_to(place, attack))} == {}


def test_what_honest_guests_send_comes_to_where_it_is_meant_to(place: Site) -> None:
    assert {errand.name: where for errand in ERRANDS if (where := missed(place, errand))} == {}


def test_each_attack_would_come_somewhere_but_for_the_filters(place: Site) -> None:
    with place.unfiltered():
        assert [attack.name for attack in ATTACKS if not came_to(place, attack)] == []


def test_of_a_flood_the_others_hear_little_and_the_rest_of_the_network_goes_on(place: Site) -> None:
    for by, frame in floods():
        heard = 0
        for _ in range(30):
            for _ in range(100):
                place.send(by, frame)
            heard += sum(map(is_sign, place.heard(by)[ALICE.name if by is MALLORY else DAVE.name]))
        assert 0 < heard < 1500
    assert {errand.name: where for errand in ERRANDS if errand.by is DAVE and (where := missed(place, errand))} == {}


@pytest.mark.parametrize("swarm", swarms.SWARMS)
def test_a_flood_of_many_fills_no_table_and_meanwhile_the_others_go_on(place: Site, swarm: str) -> None:
    others = [errand for errand in ERRANDS if errand.by is MALLORY and "DHCP" not in errand.name]  # so often none may ask it
    before = [remembered(host) for host in place.hosts]
    late = {}
    for number, errand in enumerate(others):
        for frame in range(FLOOD):
            place.send(ALICE, swarms.frame(swarm, number * FLOOD + frame))
        place.send(MALLORY, bytes(metadata_attacks.introduction(MALLORY.link_local, MALLORY)))  # who answers no probes
        late |= {errand.name: where} if (where := missed(place, errand)) else {}
    assert late == {}
    grown = [now - then for now, then in zip(map(remembered, place.hosts), before, strict=True)]
    assert max(grown) < 100 < FLOOD * len(others)


def remembered(host: Namespace) -> int:
    """How many neighbours, MACs and groups this host's network RED remembers."""
    bridge = names.bridge(RED.vni)
    with host:
        looks = (f"ip -6 -j neighbour show dev {bridge}", f"bridge -j fdb show br {bridge}", f"bridge -j mdb show dev {bridge}")
        neighbours, macs, groups = (
            json.loads(subprocess.run(look.split(), capture_output=True, check=True, timeout=60).stdout) for look in looks
        )
    return len(neighbours) + len(macs) + sum(len(found["mdb"]) for found in groups)


def test_a_guest_that_changes_its_addresses_is_not_heard_before_its_filter_changes(place: Site) -> None:
    moved = replace(ALICE.filter(), mac="02:00:00:00:00:77", addresses=("fd00:10::77",))
    then, now = (
        bytes(Ether(src=of.mac, dst=BOB.mac) / IPv6(src=of.addresses[0], dst=BOB.ip6) / udp()) for of in (ALICE.filter(), moved)
    )
    filters = place.filters[0].filters
    for known, heard in ((ALICE.filter(), [then]), (moved, [now]), (ALICE.filter(), [then])):
        with place.hosts[0]:
            filters.add([known])
        for frame in (then, now):
            place.send(ALICE, frame)
        assert [frame for frame in place.heard()[BOB.name] if is_sign(frame)] == heard
    with place.hosts[0]:
        filters.remove([ALICE.filter().key])
        place.send(ALICE, then)
        assert not any(map(is_sign, place.heard()[CAROL.name] + place.heard()[BOB.name]))
        filters.add([ALICE.filter()])


def came_to(place: Site, attack: Attack) -> list[str]:
    """The places where it is heard, or what it causes; of none that must not."""
    place.introduce()
    for frame in attack.frames:
        place.send(attack.by, frame)
    least = len(attack.frames) if attack.whole else 1
    heard = {name: sum(map(is_sign, frames)) for name, frames in place.heard(speaker(attack.by)).items()}
    return [name for name, number in heard.items() if number >= least and name not in attack.may]


def speaker(by: Guest | str) -> Guest:
    """Who tells the others when it is over."""
    return by if isinstance(by, Guest) else MALLORY


def is_sign(frame: bytes) -> bool:
    return any(sign in frame for sign in SIGNS)


def missed(place: Site, errand: Errand) -> list[str]:
    """The places where not all of it is heard, of those where it must."""
    place.introduce()
    for frame in errand.frames:
        place.send(errand.by, frame)
    heard = place.heard(speaker(errand.by))
    return [name for name in sorted(errand.to) if sum(map(is_sign, heard[name])) < len(errand.frames)]


def floods() -> Iterator[tuple[Guest, bytes]]:
    """What a guest may say, too often."""
    local = IPv6(src=MALLORY.link_local, dst=ALL, hlim=255)
    source = ICMPv6NDOptSrcLLAddr(lladdr=MALLORY.mac)
    listener = IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()
    for packet in (local / ICMPv6ND_NS(tgt=BOB.ip6) / source, local / ICMPv6ND_RS() / source, local / listener):
        yield MALLORY, bytes(said(packet)) + MARK
    yield MALLORY, bytes(said(local / UDP(sport=546, dport=547) / Raw(MARK)))
    yield TRUDY, bytes(said(IP(src=TRUDY.ip4, dst="224.0.0.22", proto=2) / Raw(MARK), TRUDY, "01:00:5e:00:00:16"))
    yield TRUDY, bytes(said(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / Raw(MARK), TRUDY, BROADCAST))
    yield TRUDY, bytes(said(ARP(hwsrc=TRUDY.mac, psrc=TRUDY.ip4, pdst=ERIN.ip4), TRUDY, BROADCAST)) + MARK
