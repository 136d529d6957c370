"""What a host's filters are made from: the ports in a VM's manifest."""

import pytest
from msgspec.structs import replace

from ucloud.firewall import rules
from ucloud.model.network import Allowed, ManifestPort, NetworkRef
from ucloud.model.vm import Manifest
from ucloud.model.wiring import PortFilter

VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
PUBLIC = NetworkRef(id="net-1", name="web", public=True, vni=5, ipv6="fd00:5::/64", mtu=1430)
PRIVATE = NetworkRef(id="net-2", name="db", vni=6, ipv6="fd00:6::/64", ipv4="10.6.0.0/24", mtu=1430)
ON_PUBLIC = ManifestPort(network=PUBLIC, mac="02:00:00:00:00:01", ipv6="fd00:5::ff:fe00:1")
ON_PRIVATE = ManifestPort(network=PRIVATE, mac="02:00:00:00:00:02", ipv6="fd00:6::ff:fe00:2", ipv4="10.6.0.7")


def manifest(*ports: ManifestPort) -> Manifest:
    return Manifest(vm=VM, host="host-1", name="web", epoch=1, boots=1, want="running", cpus=1, memory_mib=64, ports=ports)


def test_a_vm_without_ports_has_no_filter() -> None:
    assert list(rules.things(manifest())) == []


def test_each_port_may_use_its_own_addresses_and_no_others() -> None:
    assert list(rules.things(manifest(ON_PUBLIC, ON_PRIVATE))) == [
        PortFilter(vm=VM, vni=5, mac="02:00:00:00:00:01", addresses=("fd00:5::ff:fe00:1",)),
        PortFilter(vm=VM, vni=6, mac="02:00:00:00:00:02", addresses=("fd00:6::ff:fe00:2", "10.6.0.7")),
    ]


@pytest.mark.parametrize("allow", [("ra",), ("dhcp",), ("ra", "dhcp")])
def test_only_guests_of_private_networks_are_ever_allowed_to_be_routers_or_servers(allow: tuple[Allowed, ...]) -> None:
    ports = replace(ON_PUBLIC, allow=allow), replace(ON_PRIVATE, allow=allow)
    assert [filter.allow for filter in rules.things(manifest(*ports))] == [(), allow]
