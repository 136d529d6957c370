"""Things as elements of the packet filter's sets: as a reviewer can read them (tests/golden/packet-filter.nft), and back."""

from ipaddress import IPv6Address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ucloud.driver.overlay import names
from ucloud.driver.packetfilter.elements import Claims, Element, Filters, Kind, Zones, eui64, grouped, listed, understood
from ucloud.driver.packetfilter.nft import rules, statements
from ucloud.model.eui64 import link_local
from ucloud.model.wiring import PortFilter, Segment, Taken

GOLDEN = Path(__file__).parents[2] / "golden" / "packet-filter.nft"

WEB = PortFilter(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y2z", vni=0xABC, mac="02:4f:11:22:33:44", addresses=("fd00:5::4f:11ff:fe22:3344", "10.5.0.7")
)
GATE = PortFilter(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y33", vni=6, mac="02:00:00:00:00:02", addresses=("fd00:6::2",), allow=("ra", "dhcp")
)
PUBLIC = Segment(vni=0xABC, group="ff05::abc", mtu=1430, gateways=("fd00:5::1/64",), public=True)
PRIVATE = Segment(vni=6, group="ff05::6", mtu=1430, gateways=("fd00:6::1/64", "10.6.0.1/24"), public=False)
CLAIM = Taken(vni=6, address="fe80::ff:fe00:2")

macs = st.integers(0, 2**40 - 1).map(lambda low: ":".join(f"{byte:02x}" for byte in (2 << 40 | low).to_bytes(6, "big")))
vnis = st.integers(1, 2**24 - 1)
ipv6s = st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number)))


def test_the_elements_are_as_reviewed() -> None:
    elements = [
        *(element for thing in (WEB, GATE) for element in Filters().elements(thing)),
        *(element for thing in (PUBLIC, PRIVATE) for element in Zones().elements(thing)),
        *Claims().elements(CLAIM),
    ]
    assert statements("add", elements) == GOLDEN.read_text()


def test_rules_name_the_host_that_they_are_for() -> None:
    text = rules("enp1s0", ["fd00:aa::/64", "fd00:ab::/64"])
    assert 'define uplink = "enp1s0"\ndefine underlay = { fd00:aa::/64, fd00:ab::/64 }\n' in text


@given(macs, vnis, ipv6s, st.sampled_from([(), ("10.1.2.3",)]), st.sampled_from([(), ("ra",), ("dhcp",), ("ra", "dhcp")]))
def test_a_filter_is_read_back_as_it_was(mac: str, vni: int, ipv6: str, ipv4: tuple[str, ...], allow: tuple[str, ...]) -> None:
    thing = PortFilter(vm=WEB.vm, vni=vni, mac=mac, addresses=(ipv6, *ipv4), allow=allow)  # type: ignore[arg-type]
    check(Filters(), thing)


@given(vnis, st.booleans(), ipv6s)
def test_a_networks_rules_are_read_back_as_they_were(vni: int, public: bool, gateway: str) -> None:
    check(Zones(), Segment(vni=vni, group="ff05::1", mtu=1430, gateways=(f"{gateway}/64", "10.1.0.1/24"), public=public))


@given(vnis, ipv6s)
def test_a_claim_is_read_back_as_it_was(vni: int, address: str) -> None:
    check(Claims(), Taken(vni=vni, address=address))


def check(kind: Kind, thing: PortFilter | Segment | Taken) -> None:  # type: ignore[type-arg]
    """Also that without any one of its elements it is not itself."""
    elements = frozenset(kind.elements(thing))
    assert grouped(kind, elements) == {kind.group(thing.key): elements}
    assert understood(kind, elements) == (thing.key, thing)
    for missing in elements:
        if rest := elements - {missing}:
            key, found = understood(kind, rest)
            assert found is None
            assert kind.group(key) == kind.group(thing.key)


@given(macs)
def test_link_local_addresses_are_those_that_the_address_book_tells(mac: str) -> None:
    number = eui64(int(mac.replace(":", ""), 16))
    assert str(IPv6Address((0xFE80 << 112) | number)) == link_local(mac)


def test_what_nft_lists_is_read() -> None:
    described = {
        "map": {
            "family": "bridge",
            "table": "ucloud",
            "name": "ports",
            "elem": [[{"elem": {"val": "ut000006t4w1y33", "comment": "words"}}, 6], ["ut000007aaaaaaa", 7]],
        }
    }
    more = {"set": {"family": "bridge", "table": "ucloud", "name": "macs", "elem": [{"concat": ["ut000006t4w1y33", "0xfe80"]}]}}
    empty = {"set": {"family": "inet", "table": "ucloud", "name": "public"}}
    assert list(listed([{"metainfo": {}}, described, more, empty])) == [
        Element("bridge ucloud ports", ("ut000006t4w1y33",), "words", 6),
        Element("bridge ucloud ports", ("ut000007aaaaaaa",), "", 7),
        Element("bridge ucloud macs", ("ut000006t4w1y33", 0xFE80)),
    ]


def test_names_are_those_of_the_overlay() -> None:
    """An element found without its head is told by the interface's name."""
    stray = Element("bridge ucloud macs", (names.tap(6, GATE.vm), 5))
    assert understood(Filters(), frozenset({stray})) == ("6/t4w1y33", None)
    assert Filters().group(GATE.key) == "6/t4w1y33"
