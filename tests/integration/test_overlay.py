"""Networks across hosts that are network namespaces: what passes, what does not, and how many there can be."""

import os
import subprocess
from collections.abc import Iterator

import msgspec
import pytest

from tests.namespaces import Namespace, Underlay, ip, underlay
from ucloud.base.errors import Temporary
from ucloud.driver.overlay import iproute, names
from ucloud.driver.overlay.linux import GROUPS_BYTES, LinuxOverlay
from ucloud.model.wiring import Plug, Segment
from ucloud.network.wanted import group

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MTU = 1430
NETWORKS = 300


def segment(vni: int, public: bool = True) -> Segment:
    return Segment(vni=vni, group=group("ff05::", vni), mtu=MTU, gateways=(f"fd00:{vni % 65536:x}::1/64",), public=public)


def plug(vni: int, number: int) -> Plug:
    return Plug(
        vm=f"vm-{number:026}",
        vni=vni,
        mac=f"02:00:00:00:00:{number:02x}",
        mtu=MTU,
        addresses=(f"fd00:{vni % 65536:x}::1:{number:x}",),
        public=True,
    )


def guest(host: Namespace, of: Plug) -> Namespace:
    """Stands for a virtual machine: on its network's bridge by a cable of its own, beside its plug."""
    inside = Namespace()
    with host:
        port = f"guest{of.vm[-2:]}"
        ip(
            f"link add {port} mtu {MTU} type veth peer name eth0 address {of.mac} netns {inside.path}",
            f"link set {port} master {names.bridge(of.vni)}",
            f"link set {port} up",
        )
    with inside:
        ip(
            f"link set eth0 mtu {MTU} up",
            f"address add {of.addresses[0]}/64 dev eth0 nodad",
            "route add default via fe80::1 dev eth0",
        )
    return inside


def ping(address: str, size_bytes: int = 56, wait_s: int = 10) -> bool:
    """Whether it answers, from where this thread is; packets are not split up."""
    command = ["ping", "-6", "-n", "-q", "-c", "1", "-W", f"{wait_s}", "-M", "do", "-s", f"{size_bytes}", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Cloud:
    """Two hosts with a network, and a guest on each. The namespaces of guests are closed in the end."""

    VNI = 0xABCDE

    def __init__(self, wires: Underlay) -> None:
        self.hosts = wires.hosts
        self.plugs = [plug(self.VNI, 1), plug(self.VNI, 2)]
        for number, (host, port) in enumerate(zip(self.hosts, self.plugs, strict=True), 1):
            with host:
                driver = LinuxOverlay("up0", Underlay.address(number))
                driver.prepare()
                driver.segments.add([segment(self.VNI)])
                driver.plugs.add([port])
        self.guests = [guest(*pair) for pair in zip(self.hosts, self.plugs, strict=True)]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with underlay(hosts=2) as wires:
        cloud = Cloud(wires)
        yield cloud
        for inside in cloud.guests:
            inside.close()


@pytest.fixture
def wire() -> Iterator[Underlay]:
    with underlay(hosts=1) as wires:
        yield wires


def test_guests_on_different_hosts_reach_each_other_with_the_largest_packets(cloud: Cloud) -> None:
    with cloud.guests[0]:
        assert ping(cloud.plugs[1].addresses[0], MTU - 48)
        assert not ping(cloud.plugs[1].addresses[0], MTU - 47, wait_s=1)


def test_each_host_is_the_router_of_its_guests(cloud: Cloud) -> None:
    for inside in cloud.guests:
        with inside:
            assert ping("fe80::1%eth0")
            assert ping(segment(Cloud.VNI).gateways[0].partition("/")[0])
            assert names.GATEWAY_MAC in ip("neighbour show fe80::1 dev eth0")


def test_a_host_reaches_its_own_guests_and_has_no_way_to_those_elsewhere(cloud: Cloud) -> None:
    for host, here, elsewhere in zip(cloud.hosts, cloud.plugs, reversed(cloud.plugs), strict=True):
        with host:
            assert ping(here.addresses[0])
            with pytest.raises(subprocess.CalledProcessError):
                ip(f"route get {elsewhere.addresses[0]}")


def test_a_host_knows_its_guests_from_their_records_not_from_what_they_say(cloud: Cloud) -> None:
    own = cloud.plugs[0]
    with cloud.guests[0]:
        assert ping("fe80::1%eth0")
        ip("link set eth0 address 02:00:00:00:00:99")
        assert not ping(segment(Cloud.VNI).gateways[0].partition("/")[0], wait_s=1)
        ip(f"link set eth0 address {own.mac}")
    with cloud.hosts[0]:
        assert [(found.dst, found.lladdr) for found in iproute.neighbours()] == [(own.addresses[0], own.mac)]


def test_routes_say_who_is_told_of_them(cloud: Cloud) -> None:
    private = segment(7, public=False)
    port = msgspec.structs.replace(plug(7, 3), public=False, addresses=("fd00:7::1:3", "10.7.0.3"))
    with cloud.hosts[0]:
        driver = LinuxOverlay("up0", Underlay.address(1))
        driver.segments.add([private])
        driver.plugs.add([port])
        of_vms = {(route.dst, route.protocol) for route in iproute.routes() if route.protocol in ("201", "202")}
        driver.plugs.remove([port.key])
        driver.segments.remove([private.key])
    assert of_vms == {(cloud.plugs[0].addresses[0], "201"), (port.addresses[0], "202"), ("10.7.0.3", "202")}


def test_hundreds_of_networks_need_room_for_their_groups(wire: Underlay) -> None:
    """The kernel keeps all groups of a host in the memory of one socket."""
    many = [segment(number) for number in range(1, NETWORKS + 1)]
    with wire.hosts[0]:
        driver = LinuxOverlay("up0", Underlay.address(1))
        iproute.set_kernel("core/optmem_max", "4096")
        with pytest.raises(Temporary, match="optmem_max"):
            driver.segments.add(many)
        driver.prepare()
        driver.segments.add(many)
        assert driver.segments.actual() == {each.key: each for each in many}


def test_prepare_raises_limits_and_never_lowers_them(wire: Underlay) -> None:
    with wire.hosts[0]:
        for before, after in (("4096", f"{GROUPS_BYTES}"), (f"{2 * GROUPS_BYTES}", f"{2 * GROUPS_BYTES}")):
            iproute.set_kernel("core/optmem_max", before)
            LinuxOverlay("up0", Underlay.address(1)).prepare()
            assert iproute.kernel_value("core/optmem_max") == after


def test_prepare_makes_a_router_that_goes_on_listening_to_its_own(wire: Underlay) -> None:
    with wire.hosts[0]:
        LinuxOverlay("up0", Underlay.address(1)).prepare()
        assert iproute.kernel_value("ipv6/conf/all/forwarding") == "1"
        assert iproute.kernel_value("ipv6/conf/up0/accept_ra") == "2"
        assert {iproute.kernel_value(f"bridge/bridge-nf-call-{family}tables") for family in ("ip", "ip6", "arp")} == {"0"}


def test_an_uplink_that_is_missing_or_too_narrow_is_named(wire: Underlay) -> None:
    with wire.hosts[0]:
        with pytest.raises(Temporary, match="no interface up7"):
            LinuxOverlay("up7", Underlay.address(1)).segments.add([segment(1)])
        with pytest.raises(Temporary, match=r"up0 has an MTU of 1500 bytes; .* needs 1501"):
            LinuxOverlay("up0", Underlay.address(1)).segments.add([msgspec.structs.replace(segment(1), mtu=MTU + 1)])


def test_a_network_comes_back_with_the_uplink(wire: Underlay) -> None:
    """The kernel takes VXLANs away with the interface that they lead over."""
    wanted = segment(1)
    with wire.hosts[0]:
        segments = LinuxOverlay("up0", Underlay.address(1)).segments
        segments.add([wanted])
        ip("link delete up0")
        with pytest.raises(Temporary, match="no interface up0"):
            segments.add([wanted])
        ip("link add up0 type veth peer name other", "link set up0 up")
        ip(f"address add {Underlay.address(1)}/64 dev up0 nodad")
        assert segments.actual() == {wanted.key: None}
        segments.add([wanted])
        assert segments.actual() == {wanted.key: wanted}


def test_no_plug_without_its_network(wire: Underlay) -> None:
    with wire.hosts[0]:
        plugs = LinuxOverlay("up0", Underlay.address(1)).plugs
        with pytest.raises(Temporary, match="there is no such bridge"):
            plugs.add([plug(1, 1)])
        assert plugs.actual() == {}
