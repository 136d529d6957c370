"""What dnsmasq is told: as text that a reviewer can read (tests/golden/dnsmasq-command.txt), and the files that it follows."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ucloud.driver.resolver.dnsmasq_command import guest_file, names_file, programs, uid
from ucloud.model.wiring import HostName, Reservation, Service

GOLDEN = Path(__file__).parents[2] / "golden" / "dnsmasq-command.txt"
SERVICE = Service(
    vni=100, ipv6="fd00:100::/64", ipv4="10.1.0.0/24", mtu=1430, slaac=False, routed=False, domain="lan.ucloud.internal"
)
WEB = Reservation(vm="vm-1", vni=100, name="web", mac="02:00:00:00:00:01", ipv6="fd00:100::ff:fe00:1", ipv4="10.1.0.5")
NAME = HostName(vm="vm-1", vni=100, name="web", addresses=("fd00:100::ff:fe00:1", "10.1.0.5"))


def lines(text: str) -> list[str]:
    """All but comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def commands(service: Service) -> dict[str, tuple[str, ...]]:
    return {program.name: program.command for program in programs(service, ["fd00:53::1", "fd00:53::2"])}


def test_the_command_lines_are_as_reviewed() -> None:
    assert "\n\n".join("\n".join(command) for command in commands(SERVICE).values()) + "\n" == GOLDEN.read_text()


def test_where_there_is_no_ipv4_nobody_answers_dhcpv4() -> None:
    assert list(commands(replace(SERVICE, ipv4=""))) == ["dns", "dhcp6"]


def test_who_hears_from_the_internet_cannot_change_the_hosts_network() -> None:
    assert [program.name for program in programs(SERVICE, []) if "admin" not in program.capabilities] == ["dns"]


def test_guests_make_their_address_themselves_where_they_shall() -> None:
    assert "--dhcp-range=fd00:100::,static,slaac,64,infinite" in commands(replace(SERVICE, slaac=True))["dhcp6"]


def test_a_default_route_is_given_where_there_is_a_way_out() -> None:
    found = commands(replace(SERVICE, routed=True))
    assert "--ra-param=ubr000064,mtu:1430,600,9000" in found["dhcp6"]
    assert "--dhcp-option=option:router,10.1.0.1" in found["dhcp4"]
    routes = "0.0.0.0/0,10.1.0.1,169.254.169.254/32,10.1.0.1"
    assert f"--dhcp-option-force=option:classless-static-route,{routes}" in found["dhcp4"]


def test_each_network_has_a_user_above_those_of_guests() -> None:
    assert (uid(1), uid((1 << 24) - 1)) == (0x7F000001, 0x7FFFFFFF)


def test_a_guest_is_known_by_its_mac() -> None:
    assert lines(guest_file(WEB)) == ["02:00:00:00:00:01,[fd00:100::ff:fe00:1],10.1.0.5"]
    assert lines(guest_file(replace(WEB, ipv4=""))) == ["02:00:00:00:00:01,[fd00:100::ff:fe00:1]"]


def test_a_name_is_a_line_for_each_address() -> None:
    assert lines(names_file(NAME)) == ["fd00:100::ff:fe00:1 web", "10.1.0.5 web"]


@pytest.mark.parametrize("name", ["gateway", "metadata", "localhost", "a b", "web\nfd00::1 bank", "www.example.com", ""])
def test_names_that_are_not_a_vms_are_not_served(name: str) -> None:
    assert lines(names_file(replace(NAME, name=name))) == []
