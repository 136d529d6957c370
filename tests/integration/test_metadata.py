"""Guests ask who they are by the programs that they use: bridges, packet filter, router advertisements, DNS, files and the
metadata daemon together, on hosts that are namespaces. And what floods of them, and others, come to."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.integration.attack_site import ALICE, BOB, MALLORY, RED, Guest, Site, site
from tests.integration.dhcp_clients import wait_for
from tests.integration.host_attacks import between_hosts
from tests.integration.hostile import NUMBER, SIGNS
from tests.integration.metadata_attacks import ask as first_packet
from tests.integration.test_resolver import DB, FAR, LAN, NET, WEB, ask, is_ready, name_of, segment_of
from tests.namespaces import Namespace, Underlay, ip, underlay
from ucloud.driver.metadata.files import DIRECTORY, MetadataFiles
from ucloud.driver.overlay import iproute
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.overlay.names import METADATA4, METADATA6, METADATA_LOCAL, METADATA_PORT, bridge, tap, vxlan
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.model.eui64 import link_local
from ucloud.model.wiring import Metadata, PortFilter, Reservation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SERVICES = {service.vni: service for service in (LAN, NET)}
GATEWAYS = {LAN.vni: ("fd00:100::1", "10.1.0.1"), NET.vni: ("fd00:200::1",)}
PATIENCE_S, SILENCE_S = 30, 1
UMASK = 0o077  # a careful operator's
TIMED_OUT = 28  # curl(1)


class Host:
    """It has a private network with WEB and DB, and a public one with FAR."""

    def __init__(self, wires: Underlay, run_dir: Path, stack: ExitStack) -> None:
        self.space, self.places = wires.hosts[0], {guest.vm: Namespace() for guest in (WEB, DB, FAR)}
        overlay, packet_filter = LinuxOverlay("up0", Underlay.address(1)), NftPacketFilter("up0", ["fd00:aa::/64"])
        resolver, files = DnsmasqResolver(run_dir, []), MetadataFiles(run_dir / DIRECTORY)
        stack.callback(lambda: dnsmasq_process.end(list(dnsmasq_process.find(run_dir.resolve() / "resolver"))))
        for place in self.places.values():
            stack.enter_context(closing(place))
        segments = [segment_of(service) for service in (LAN, NET)]
        with self.space:
            overlay.prepare()
            packet_filter.zones.add(segments)
            overlay.segments.add(segments)
            for guest in (WEB, DB, FAR):
                packet_filter.filters.add(
                    [PortFilter(vm=guest.vm, vni=guest.vni, mac=guest.mac, addresses=addresses_of(guest))]
                )
                self.plug(guest)
            resolver.services.add([LAN, NET])
            resolver.names.add([name_of(guest) for guest in (WEB, DB, FAR)])
            before = os.umask(UMASK)
            files.add([told(guest) for guest in (WEB, DB, FAR)])
            os.umask(before)
            stack.enter_context(daemon(run_dir))

    def plug(self, guest: Reservation) -> None:
        """The guest takes its addresses, and the routes that it is told of."""
        plug, place = tap(guest.vni, guest.vm), self.places[guest.vm]
        ip(f"link add {plug} type veth peer name eth0 address {guest.mac} netns {place.path}")
        ip(f"link set {plug} master {bridge(guest.vni)} up")
        ip(*(f"route add {address} dev {bridge(guest.vni)}" for address in addresses_of(guest)))
        with place:
            iproute.set_kernel("ipv6/conf/eth0/accept_dad", "0")  # it uses its addresses at once
            ip("link set eth0 up", f"address add {guest.ipv6}/128 dev eth0 nodad")
            if guest.ipv4:
                ip(f"address add {guest.ipv4}/24 dev eth0", f"route add {METADATA4} via 10.1.0.1")
            wait_for(lambda: is_ready(place))


def addresses_of(guest: Reservation) -> tuple[str, ...]:
    return (guest.ipv6, *([guest.ipv4] if guest.ipv4 else []))


def told(guest: Reservation) -> Metadata:
    return Metadata(
        vm=guest.vm,
        vni=guest.vni,
        sources=(guest.ipv6, link_local(guest.mac), *addresses_of(guest)[1:]),
        name=guest.name,
        domain=SERVICES[guest.vni].domain,
        user_data=guest.name.encode() * 1000,
    )


@contextmanager
def daemon(run_dir: Path) -> Iterator[None]:
    config = run_dir / "ucloud.toml"
    config.write_text(f'[host]\nrun_dir = "{run_dir}"\n')
    process = subprocess.Popen([sys.executable, "-m", "ucloud.daemon.main", "daemon", "metadata", "--config", str(config)])
    try:
        wait_for(listens)
        yield
    finally:
        process.kill()
        process.wait()


def listens() -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("::1", METADATA_PORT)):
        return True
    return False


@pytest.fixture(scope="module")
def wires() -> Iterator[Underlay]:
    with underlay(hosts=2) as wires:
        yield wires


@pytest.fixture(scope="module")
def host(wires: Underlay) -> Iterator[Host]:
    run_dir = Path(tempfile.mkdtemp(prefix="uct-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, run_dir)
        yield Host(wires, run_dir, stack)


def curl(url: str, *options: str, wait_s: int = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", f"{wait_s}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("guest", [WEB, DB, FAR], ids=lambda guest: guest.name)
def test_a_guest_is_told_who_it_is_at_all_addresses(host: Host, guest: Reservation) -> None:
    """Private and public, with IPv4 and without."""
    with host.places[guest.vm]:
        wait_for(lambda: "eth0" in routes_to(METADATA6))
        addresses = [METADATA6, f"{METADATA_LOCAL}%25eth0", *GATEWAYS[guest.vni], *([METADATA4] if guest.ipv4 else [])]
        answers = {address: curl(f"http://{literal(address)}/hostname").stdout for address in addresses}
        assert answers == dict.fromkeys(addresses, guest.name)
        assert json.loads(curl(f"http://[{METADATA6}]/").stdout)["id"] == guest.vm
        assert curl(f"http://[{METADATA6}]/user-data").stdout == guest.name * 1000


def routes_to(address: str) -> str:
    with suppress(subprocess.CalledProcessError):
        return ip(f"route get {address}")
    return ""


def test_a_guest_that_takes_169_254_for_its_own_cable_is_answered_too(host: Host) -> None:
    """As many systems do (RFC 3927): it asks for the address itself, not for the gateway."""
    with host.places[DB.vm]:
        ip(f"route replace {METADATA4} dev eth0")
        assert curl(f"http://{METADATA4}/hostname").stdout == DB.name


@pytest.mark.parametrize("guest", [WEB, FAR], ids=lambda guest: guest.name)
def test_metadata_has_a_name(host: Host, guest: Reservation) -> None:
    gateway, *gateway4 = GATEWAYS[guest.vni]
    with host.places[guest.vm]:
        wait_for(lambda: "eth0" in routes_to(gateway))
        for name in ("metadata", f"metadata.{SERVICES[guest.vni].domain}", "metadata.ucloud.internal"):
            for kind, expected in (("AAAA", [gateway]), ("A", gateway4)):
                assert ask(name, kind, server=gateway) == ("NOERROR", expected)
                for address in expected:
                    found = curl(f"http://{name}/hostname", "--resolve", f"{name}:{METADATA_PORT}:{address}")
                    assert found.stdout == guest.name


def test_who_takes_another_link_local_address_is_not_answered_there(host: Host) -> None:
    """Nobody could tell whose it is. Systems make such addresses if they shall hide the MAC (RFC 7217)."""
    with host.places[DB.vm]:
        connect_from(link_local(DB.mac), PATIENCE_S)
        for source in (link_local(WEB.mac), "fe80::77"):
            ip(f"address replace {source}/64 dev eth0 nodad")
            with pytest.raises(TimeoutError):
                connect_from(source, SILENCE_S)


def connect_from(link_local: str, wait_s: float) -> None:
    with socket.socket(socket.AF_INET6) as asking:
        scope = socket.if_nametoindex("eth0")
        asking.bind((link_local, 0, 0, scope))
        asking.settimeout(wait_s)
        asking.connect((METADATA_LOCAL, METADATA_PORT, 0, scope))


def test_nobody_outside_reaches_it(host: Host, wires: Underlay) -> None:
    gateways = [GATEWAYS[NET.vni][0], METADATA6]
    with wires.hosts[1]:
        ip(*(f"route replace {gateway} via {Underlay.address(1)}" for gateway in gateways))
        for address in (Underlay.address(1), *gateways):
            subprocess.run(["ping", "-c", "1", "-w", "20", address], check=True, capture_output=True, timeout=60)
            assert curl(f"http://[{address}]/", wait_s=SILENCE_S).returncode == TIMED_OUT


# By frames, on the site of attacks


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as place:
        place.heard()
        yield place


def answers(place: Site, guest: Guest) -> int:
    """To it, since it was asked last."""
    return sum(any(sign in frame for sign in SIGNS) for frame in place.heard(guest)[guest.name])


def test_a_flood_of_connections_is_cut_short_and_others_are_answered(place: Site) -> None:
    heard = 0
    for port in range(1, 3001):
        packet = first_packet(MALLORY.ip6, METADATA6, MALLORY)
        packet[TCP].sport = port
        place.send(MALLORY, bytes(packet))
        if port % 100 == 0:
            heard += answers(place, MALLORY)
    assert 100 <= heard < 1500
    place.send(ALICE, bytes(first_packet(ALICE.ip6, METADATA6, ALICE)))
    assert answers(place, ALICE) == 1


def test_a_host_takes_no_connections_from_networks_of_others(place: Site) -> None:
    """Not even by the MAC of its own end of the VXLAN."""
    with place.hosts[0]:
        mac = iproute.links([vxlan(RED.vni)])[vxlan(RED.vni)].address
    packet = IPv6(src=BOB.ip6, dst=RED.gateway) / TCP(sport=9999, dport=METADATA_PORT, seq=NUMBER, flags="S")
    frame = bytes(Ether(src=BOB.mac, dst=mac) / packet)
    place.heard()
    place.send("world", bytes(between_hosts(RED.vni, Ether(frame))))
    assert not any(frame in heard for heard in place.heard()["host 1"])
