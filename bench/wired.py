"""A host's networks for benchmarks: a network namespace with all sets that its daemon keeps, by the real drivers but for
metadata, which are files. Port number n is VM n's, on its own host, as its manifest and the address book ask for it.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.namespaces import Underlay, underlay
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.host.wiring import Set, Wiring
from ucloud.ipam import allocate
from ucloud.model import eui64
from ucloud.model.wiring import HostName, Plug, PortFilter, Reservation, Segment, Service, Taken, Thing
from ucloud.network.wanted import group

MTU = 1430
UNDERLAY = "fd00:aa::/64"


class WiredHost:
    def __init__(self, directory: Path) -> None:
        """In the namespace that this thread is in. directory: of its processes."""
        self.directory = directory
        overlay, packet_filter = LinuxOverlay("up0", Underlay.address(1)), NftPacketFilter("up0", [UNDERLAY])
        overlay.prepare()
        packet_filter.prepare()
        resolver = DnsmasqResolver(directory, [])
        self.wiring = Wiring(
            [
                Set(Segment, packet_filter.zones),
                Set(Segment, overlay.segments),
                Set(PortFilter, packet_filter.filters),
                Set(Taken, packet_filter.taken),
                Set(Plug, overlay.plugs),
                Set(Service, resolver.services),
                Set(Reservation, resolver.reservations),
                Set(HostName, resolver.names),
            ]
        )

    def processes(self) -> list[dnsmasq_process.Process]:
        return list(dnsmasq_process.find(self.directory.resolve() / "resolver"))


@contextmanager
def wired_host() -> Iterator[WiredHost]:
    """This thread is in its namespace."""
    directory = Path(tempfile.mkdtemp(prefix="uct-"))
    with underlay(hosts=1) as wires, wires.hosts[0]:
        host = WiredHost(directory)
        try:
            yield host
        finally:
            dnsmasq_process.end(host.processes())
            shutil.rmtree(directory)


def segment(vni: int) -> Segment:
    return Segment(vni=vni, group=group("ff05::", vni), mtu=MTU, gateways=(f"fd00:{vni:x}::1/64",), public=True)


def service(vni: int) -> Service:
    domain = f"n{vni}.ucloud.internal"
    return Service(vni=vni, ipv6=f"fd00:{vni:x}::/64", ipv4="", mtu=MTU, slaac=False, routed=True, domain=domain)


def port(number: int, vni: int) -> tuple[PortFilter, Taken, Plug, Reservation, HostName]:
    vm, name = f"vm-{number:026}", f"web-{number}"
    mac = allocate.mac(f"{vni}", vm)
    addresses = (address := eui64.address(f"fd00:{vni:x}::/64", mac),)
    return (
        PortFilter(vm=vm, vni=vni, mac=mac, addresses=addresses),
        Taken(vni=vni, address=eui64.link_local(mac)),
        Plug(vm=vm, vni=vni, mac=mac, mtu=MTU, addresses=addresses, public=True),
        Reservation(vm=vm, vni=vni, name=name, mac=mac, ipv6=address, ipv4=""),
        HostName(vm=vm, vni=vni, name=name, addresses=addresses),
    )


def add_ms(host: WiredHost, user: str, *things: Thing) -> float:
    return milliseconds(lambda: host.wiring.want(user, things))


def milliseconds(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1000
