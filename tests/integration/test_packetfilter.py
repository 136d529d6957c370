"""The packet filter's rules themselves: they outlive daemons, are mended, and let the host use its own network."""

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from tests.integration.attack_site import ALICE, BOB, MALLORY, RED, Site, site, to_all
from tests.namespaces import Namespace
from ucloud.base.errors import Temporary
from ucloud.driver.overlay.names import GATEWAY_MAC
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.model.wiring import PortFilter, Segment, Taken

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NETWORK = Segment(vni=1, group="ff05::1", mtu=1430, gateways=("fd00:1::1/64",), public=True)
WEB = PortFilter(vm="vm-1aaaaaaaa", vni=1, mac="02:00:00:00:00:01", addresses=("fd00:1::ff:fe00:1",))
DB = PortFilter(vm="vm-2bbbbbbbb", vni=1, mac="02:00:00:00:00:02", addresses=("fd00:1::ff:fe00:2",))
CLAIM = Taken(vni=1, address="fe80::ff:fe00:1")


@pytest.fixture
def host() -> Iterator[NftPacketFilter]:
    """With something in each set. This thread is on it."""
    made = Namespace()
    with made:
        filters = driver()
        filters.prepare()
        filters.zones.add([NETWORK])
        filters.filters.add([WEB])
        filters.taken.add([CLAIM])
        yield filters
    made.close()


@pytest.fixture
def place() -> Iterator[Site]:
    with site() as place:
        yield place


def driver() -> NftPacketFilter:
    return NftPacketFilter("up0", ["fd00:aa::/64"])


def nft(text: str) -> str:
    return subprocess.run(["nft", *text.split()], check=True, capture_output=True, text=True, timeout=60).stdout


def holds(filters: NftPacketFilter) -> list[object]:
    return [thing for things in (filters.zones, filters.filters, filters.taken) for thing in things.actual().values()]


def test_the_next_daemon_loads_its_rules_and_keeps_what_is_there(host: NftPacketFilter) -> None:
    nft("flush chain bridge ucloud from_guest")
    later = driver()
    later.prepare()
    assert holds(later) == [NETWORK, WEB, CLAIM]
    assert "macs drop" in nft("list chain bridge ucloud from_guest")


@pytest.mark.parametrize(
    "damage",
    [
        "flush chain bridge ucloud from_guest",
        "delete table inet ucloud",
        "insert rule bridge ucloud from_guest accept",
        "add chain inet ucloud input { policy drop ; }",
        "add chain bridge ucloud more",
    ],
)
def test_changed_rules_are_seen_and_adding_anything_loads_them_anew(host: NftPacketFilter, damage: str) -> None:
    before = nft("--stateless list ruleset")
    nft(damage)
    assert set(holds(host)) == {None}
    host.zones.add([NETWORK])
    assert holds(host) == [NETWORK, WEB, CLAIM]
    assert nft("--stateless list ruleset") == before


def test_deleted_tables_leave_nothing_and_come_back(host: NftPacketFilter) -> None:
    before = nft("--stateless list ruleset")
    nft("flush ruleset")
    assert holds(host) == []
    host.filters.add([WEB])
    host.zones.add([NETWORK])
    host.taken.add([CLAIM])
    assert nft("--stateless list ruleset") == before


def test_tables_of_others_are_left_alone(host: NftPacketFilter) -> None:
    nft("add table inet theirs")
    host.filters.add([DB])
    assert host.filters.actual() == {WEB.key: WEB, DB.key: DB}
    host.prepare()
    assert "theirs" in nft("list tables")


def test_two_vms_whose_interfaces_have_one_name_do_not_share_a_filter(host: NftPacketFilter) -> None:
    other = PortFilter(vm="vm-9aaaaaaaa", vni=1, mac="02:00:00:00:00:09", addresses=("fd00:1::9",))
    with pytest.raises(Temporary, match=r"1/vm-9aaaaaaaa: 1/vm-1aaaaaaaa"):
        host.filters.add([other])
    assert host.filters.actual() == {WEB.key: WEB}


def test_what_nft_refuses_changes_nothing_and_is_told_in_its_words(host: NftPacketFilter) -> None:
    before = nft("--stateless list ruleset")
    with pytest.raises(Temporary, match=r"nft: .*[Ee]rror"):
        host.filters.add([DB, PortFilter(vm="vm-3" + "x" * 200, vni=1, mac="02:00:00:00:00:03", addresses=("fd00:1::3",))])
    assert nft("--stateless list ruleset") == before
    with pytest.raises(Temporary, match="nft: "):
        NftPacketFilter("up0", ["no prefix"]).prepare()
    assert nft("--stateless list ruleset") == before


def test_a_host_connects_to_its_guests_and_pings_them(place: Site) -> None:
    with place.hosts[0]:
        connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        connection.setblocking(False)
        assert connection.connect_ex((MALLORY.ip6, 80)) != 0
    asked = next(packet for packet in map(Ether, place.heard(ALICE)[MALLORY.name]) if TCP in packet)
    assert (asked.src, asked[IPv6].src) == (GATEWAY_MAC, RED.gateway)
    back = Ether(src=MALLORY.mac, dst=GATEWAY_MAC) / IPv6(src=MALLORY.ip6, dst=RED.gateway)
    place.send(MALLORY, bytes(back / TCP(sport=80, dport=asked[TCP].sport, seq=7, ack=asked[TCP].seq + 1, flags="SA")))
    place.heard()
    assert connection.getpeername()[:2] == (MALLORY.ip6, 80)
    connection.close()
    with place.hosts[0], socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as pinging:
        pinging.sendto(bytes(ICMPv6EchoRequest(id=77)), (MALLORY.ip6, 0))
        pinging.setblocking(False)
        place.heard(ALICE)
        place.send(MALLORY, bytes(back / ICMPv6EchoReply(id=77)))
        place.heard()
        replies = []
        while not replies or replies[-1][:1] != b"\x81":
            replies.append(pinging.recv(2000))


def test_a_guest_of_whose_filter_a_part_is_missing_is_not_heard(place: Site) -> None:
    with place.hosts[0]:
        for element in (f"ports {{ {MALLORY.tap} }}", f"macs {{ {MALLORY.tap} . 0x20000000001 }}"):
            mark = os.urandom(16)
            nft(f"delete element bridge ucloud {element}")
            place.send(MALLORY, to_all(MALLORY, mark))
            assert not any(mark in frame for frames in place.heard(ALICE).values() for frame in frames)
            place.filters[0].filters.add([MALLORY.filter()])


def test_marks_of_networks_do_not_leave_the_filter(place: Site) -> None:
    """An operator's rules for routing may go by them."""
    with place.hosts[0]:
        nft("add table bridge watching")
        nft("add counter bridge watching marked")
        nft("add chain bridge watching prerouting { type filter hook prerouting priority 0 ; }")
        nft("add rule bridge watching prerouting meta mark != 0 counter name marked")
        place.send(MALLORY, to_all(MALLORY, b""))
        place.send(BOB, to_all(BOB, b""))
        place.heard()
        assert "packets 0" in nft("list counter bridge watching marked")
