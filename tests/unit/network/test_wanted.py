"""What a host is wired with for a VM."""

import ipaddress

import msgspec
import pytest

from ucloud.model.network import ManifestPort, NetworkRef
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Plug, Segment
from ucloud.network.wanted import gateway, group, things

WEB = ManifestPort(
    network=NetworkRef(id="net-1", name="web", public=True, vni=100, ipv6="fd00:1::/64", mtu=1430),
    mac="02:00:00:00:00:01",
    ipv6="fd00:1::ff:fe00:1",
)
DB = ManifestPort(
    network=NetworkRef(id="net-2", name="db", vni=65536, ipv6="fd00:2::/64", ipv4="10.1.0.0/24", mtu=8930),
    mac="02:00:00:00:00:02",
    ipv6="fd00:2::ff:fe00:2",
    ipv4="10.1.0.7",
)


def manifest(*ports: ManifestPort) -> Manifest:
    return Manifest(host="host-1", vm="vm-1", name="web", epoch=1, boots=1, want="running", cpus=1, memory_mib=128, ports=ports)


@pytest.mark.parametrize(
    ("vni", "expected"),
    [
        (1, "ff05::1"),
        (10, "ff05::a"),
        (255, "ff05::ff"),
        (256, "ff05::100"),
        (65536, "ff05::1:0"),
        (2**24 - 1, "ff05::ff:ffff"),
    ],
)
def test_a_group_has_the_vni_in_its_low_bits(vni: int, expected: str) -> None:
    assert group("ff05::", vni) == expected
    assert group("ff08:1234::5:6700:0", vni) == str(ipaddress.IPv6Address(f"ff08:1234::5:67{vni >> 16:02x}:{vni & 0xFFFF:x}"))


@pytest.mark.parametrize("vni", [0, -1, 2**24])
def test_no_vni_outside_of_its_24_bits_has_a_group(vni: int) -> None:
    with pytest.raises(AssertionError):
        group("ff05::", vni)


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("fd00:1::/64", "fd00:1::1/64"),
        ("10.1.0.0/24", "10.1.0.1/24"),
        ("10.0.0.0/8", "10.0.0.1/8"),
        ("10.0.0.8/29", "10.0.0.9/29"),
    ],
)
def test_the_router_has_the_first_address(subnet: str, expected: str) -> None:
    assert gateway(subnet) == expected


def test_a_vm_without_ports_needs_nothing() -> None:
    assert list(things(manifest(), "ff05::")) == []


def test_each_port_needs_its_network_and_then_its_plug() -> None:
    assert list(things(manifest(WEB, DB), "ff05::")) == [
        Segment(vni=100, group="ff05::64", mtu=1430, gateways=("fd00:1::1/64",), public=True),
        Plug(vm="vm-1", vni=100, mac=WEB.mac, mtu=1430, addresses=(WEB.ipv6,), public=True),
        Segment(vni=65536, group="ff05::1:0", mtu=8930, gateways=("fd00:2::1/64", "10.1.0.1/24"), public=False),
        Plug(vm="vm-1", vni=65536, mac=DB.mac, mtu=8930, addresses=(DB.ipv6, "10.1.0.7"), public=False),
    ]


def test_vms_of_one_network_need_the_same_network() -> None:
    other = msgspec.structs.replace(manifest(msgspec.structs.replace(WEB, mac="02:00:00:00:00:09")), vm="vm-2")
    (first, _), (second, _) = things(manifest(WEB), "ff05::"), things(other, "ff05::")
    assert first == second
