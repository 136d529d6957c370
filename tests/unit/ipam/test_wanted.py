"""Which services a host gives to the networks of a VM, and what it tells of the others there."""

from msgspec.structs import replace

from ucloud.ipam.wanted import neighbours, things
from ucloud.model.network import ManifestPort, NetworkRef, Port
from ucloud.model.vm import Manifest
from ucloud.model.wiring import HostName, Reservation, Service, Taken

MAC = "02:00:00:00:00:01"
NETWORK = NetworkRef(id="network-1", name="lan", vni=100, ipv6="fd00:100::/64", ipv4="10.1.0.0/24", mtu=1430, slaac=True)
PORT = ManifestPort(network=NETWORK, mac=MAC, ipv6="fd00:100::ff:fe00:1", ipv4="10.1.0.5")
MANIFEST = Manifest(
    host="host-1", vm="vm-1", name="web", epoch=1, boots=1, want="running", cpus=1, memory_mib=64, ports=(PORT,)
)


def test_a_port_wants_its_networks_service_and_a_reservation() -> None:
    assert list(things(MANIFEST, "ucloud.internal")) == [
        Service(
            vni=100,
            ipv6="fd00:100::/64",
            ipv4="10.1.0.0/24",
            mtu=1430,
            slaac=True,
            routed=False,
            domain="lan.ucloud.internal",
        ),
        Reservation(vm="vm-1", vni=100, name="web", mac=MAC, ipv6="fd00:100::ff:fe00:1", ipv4="10.1.0.5"),
    ]


def test_guests_of_a_public_network_have_a_way_out() -> None:
    port = replace(PORT, network=replace(NETWORK, public=True))
    service, _ = things(replace(MANIFEST, ports=(port,)), "ucloud.internal")
    assert isinstance(service, Service)
    assert service.routed


def test_a_vm_without_ports_wants_nothing() -> None:
    assert list(things(replace(MANIFEST, ports=()), "ucloud.internal")) == []


def test_of_others_the_name_and_the_link_local_address_are_known() -> None:
    port = Port(network="network-1", vm="vm-2", name="db", mac=MAC, ipv6="fd00:100::ff:fe00:1", host="host-2")
    assert list(neighbours(port, 100)) == [
        HostName(vm="vm-2", vni=100, name="db", addresses=("fd00:100::ff:fe00:1",)),
        Taken(vni=100, address="fe80::ff:fe00:1"),
    ]
