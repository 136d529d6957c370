"""Which MAC, address, prefix and VNI something new gets."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud.driver.overlay.names import GATEWAY_MAC
from ucloud.ipam import allocate
from ucloud.model import eui64

ids = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26)
macs = st.binary(min_size=5, max_size=5).map(lambda octets: ":".join(f"{octet:02x}" for octet in (0x02, *octets)))
private = st.tuples(st.integers(0, (1 << 24) - 1), st.integers(24, 30)).map(
    lambda drawn: str(IPv4Network((0x0A000000 | drawn[0], drawn[1]), strict=False))
)


@given(ids, ids, st.integers(0, 3))
def test_a_mac_is_local_and_unicast_and_never_the_gateways(network: str, vm: str, attempt: int) -> None:
    mac = allocate.mac(network, vm, attempt)
    octets = [int(octet, 16) for octet in mac.split(":")]
    assert len(octets) == 6
    assert octets[0] == 0x02
    assert mac == mac.lower() != GATEWAY_MAC


@given(ids, ids)
def test_a_mac_follows_from_the_ids_and_another_attempt_gives_another(network: str, vm: str) -> None:
    assert allocate.mac(network, vm) == allocate.mac(network, vm)
    assert len({allocate.mac(network, vm), allocate.mac(network, vm, 1), allocate.mac(vm + "x", network)}) == 3


def test_the_interface_identifier_is_that_of_the_standard() -> None:
    """RFC 4291, appendix A: 34-56-78-9A-BC-DE. RFC 2464, section 4, has the same with its own example."""
    assert eui64.interface_id("34:56:78:9a:bc:de") == 0x3656_78FF_FE9A_BCDE


def test_addresses_are_the_networks_prefix_and_that_identifier() -> None:
    assert eui64.address("fd12:3456:789a:1::/64", "34:56:78:9a:bc:de") == "fd12:3456:789a:1:3656:78ff:fe9a:bcde"
    assert eui64.link_local("02:00:00:00:00:01") == "fe80::ff:fe00:1"


@given(st.sets(macs, min_size=2, max_size=20))
def test_ports_with_different_macs_have_different_addresses(macs: set[str]) -> None:
    addresses = {eui64.address("fd00:1::/64", mac) for mac in macs}
    assert len(addresses) == len(macs)
    assert all(IPv6Address(address) in IPv6Network("fd00:1::/64") for address in addresses)
    assert "fd00:1::1" not in addresses


@given(private, macs)
def test_an_ipv4_address_is_no_special_one(subnet: str, mac: str) -> None:
    network = IPv4Network(subnet)
    found = allocate.ipv4(subnet, mac, frozenset())
    assert found is not None
    assert IPv4Address(found) in network
    assert IPv4Address(found) not in (network[0], network[1], network[-1])


@pytest.mark.parametrize("subnet", ["10.0.0.0/30", "10.0.0.8/29", "10.0.0.0/26"])
def test_all_ipv4_addresses_are_given_away_before_there_is_none(subnet: str) -> None:
    taken: set[str] = set()
    while found := allocate.ipv4(subnet, f"02:00:00:00:00:{len(taken):02x}", taken):
        assert found not in taken
        taken.add(found)
    assert len(taken) == IPv4Network(subnet).num_addresses - 3


@pytest.mark.parametrize("subnet", ["10.0.0.0/31", "10.0.0.1/32"])
def test_a_range_that_has_no_room_for_guests_has_no_address(subnet: str) -> None:
    assert allocate.ipv4(subnet, "02:00:00:00:00:01", frozenset()) is None


def test_the_first_free_prefix_of_the_pools_is_taken() -> None:
    pool = ["2001:db8:0:fffe::/63", "2001:db8:1::/48"]
    taken: list[str] = []
    for _ in range(4):
        taken.append(allocate.subnet(pool, taken) or "")
    assert taken == ["2001:db8:0:fffe::/64", "2001:db8:0:ffff::/64", "2001:db8:1::/64", "2001:db8:1:1::/64"]
    assert allocate.subnet(pool, taken[1:]) == taken[0]


def test_pools_that_overlap_give_no_prefix_twice() -> None:
    pool = ["2001:db8::/63", "2001:db8::/64"]
    assert allocate.subnet(pool, ["2001:db8::/64"]) == "2001:db8:0:1::/64"
    assert allocate.subnet(pool, ["2001:db8::/64", "2001:db8:0:1::/64"]) is None


def test_no_pool_has_no_prefix() -> None:
    assert allocate.subnet([], frozenset()) is None


@given(ids, st.integers(0, 3))
def test_private_prefixes_are_unique_local_ones(network: str, attempt: int) -> None:
    subnet = IPv6Network(allocate.private_subnet(network, attempt))
    assert subnet.prefixlen == 64
    assert subnet.subnet_of(IPv6Network("fd00::/8"))
    assert allocate.private_subnet(network, attempt + 1) != str(subnet)


def test_the_lowest_free_vni_is_taken() -> None:
    assert allocate.vni(5, 7, frozenset()) == 5
    assert allocate.vni(5, 7, {5, 7}) == 6
    assert allocate.vni(5, 7, {5, 6, 7}) is None
    assert allocate.vni(7, 6, frozenset()) is None
