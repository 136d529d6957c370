"""Guests learn from dnsmasq what they should, by programs that no one here wrote; and nothing else, and nobody else does."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.reversename
import dns.rrset
import msgspec
import pytest
from dns.exception import Timeout
from msgspec.structs import replace

from tests.bridges import add_bridge
from tests.integration.dhcp_clients import advertised, dhclient, lease6, wait_for
from tests.namespaces import Namespace, ip, underlay
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC, METADATA6, bridge, tap
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.driver.process.linux import PROC, command_of
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.driver.resolver.dnsmasq_command import uid
from ucloud.model.wiring import HostName, PortFilter, Reservation, Segment, Service
from ucloud.network.wanted import gateway

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAN = Service(
    vni=100, ipv6="fd00:100::/64", ipv4="10.1.0.0/24", mtu=1430, slaac=False, routed=False, domain="lan.ucloud.internal"
)
NET = Service(vni=200, ipv6="fd00:200::/64", ipv4="", mtu=1400, slaac=True, routed=True, domain="net.ucloud.internal")
RESOLVER = "fd00:53::1"
PATIENCE_S = 10.0
SILENCE_S = 1.0


def guest_of(service: Service, number: int, name: str) -> Reservation:
    prefix = service.ipv6.removesuffix("::/64")
    return Reservation(
        vm=f"vm-{number}",
        vni=service.vni,
        name=name,
        mac=f"02:00:00:00:00:{number:02x}",
        ipv6=f"{prefix}::ff:fe00:{number:x}",
        ipv4=f"10.1.0.{number + 10}" if service.ipv4 else "",
    )


WEB, DB, FAR = guest_of(LAN, 1, "web"), guest_of(LAN, 2, "db"), guest_of(NET, 3, "far")


def name_of(guest: Reservation, name: str = "") -> HostName:
    addresses = (guest.ipv6, *([guest.ipv4] if guest.ipv4 else []))
    return HostName(vm=guest.vm, vni=guest.vni, name=name or guest.name, addresses=addresses)


def segment_of(service: Service) -> Segment:
    gateways = tuple(gateway(subnet) for subnet in (service.ipv6, service.ipv4) if subnet)
    return Segment(vni=service.vni, group=f"ff05::{service.vni:x}", mtu=service.mtu, gateways=gateways, public=service.routed)


class Host:
    """A host with both networks, in a namespace of its own."""

    def __init__(self, directory: Path, resolvers: tuple[str, ...] = ()) -> None:
        self.space, self.directory = Namespace(), directory.resolve() / "resolver"
        self.resolver = DnsmasqResolver(directory, resolvers)
        with self.space:
            for service in (LAN, NET):
                add_bridge(service)

    def plug(self, guest: Reservation, place: Namespace) -> None:
        """The guest's eth0, which may be plugged into another host now, into this one."""
        plug = tap(guest.vni, guest.vm)
        with place:
            if "eth0" in ip("link show"):
                ip("link delete eth0")
        with self.space:
            ip(f"link add {plug} type veth peer name eth0 netns {place.path}", f"link set {plug} master {bridge(guest.vni)} up")
            for address in (guest.ipv6, *([guest.ipv4] if guest.ipv4 else [])):
                ip(f"route replace {address} dev {bridge(guest.vni)}")
        with place:
            Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("0")
            ip(f"link set eth0 address {guest.mac}", "link set eth0 up")
        wait_for(lambda: is_ready(place))

    def close(self) -> None:
        dnsmasq_process.end(list(dnsmasq_process.find(self.directory)))
        self.space.close()


def is_ready(place: Namespace) -> bool:
    """Its interface has its link-local address."""
    with place:
        return "inet6 fe80" in ip("address show dev eth0 scope link")


@contextmanager
def serving(host: Host, *services: Service) -> Iterator[DnsmasqResolver]:
    """This thread is on the host when it asks the resolver for something."""
    with host.space:
        host.resolver.services.add(services)
    yield host.resolver


@pytest.fixture
def scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="uct-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def host(scratch: Path) -> Iterator[Host]:
    """It serves both networks."""
    made = Host(scratch / "host")
    try:
        with serving(made, LAN, NET):
            yield made
    finally:
        made.close()


@pytest.fixture
def place(host: Host) -> Iterator[Namespace]:
    """Where the guest `web` lives."""
    made = Namespace()
    host.plug(WEB, made)
    yield made
    made.close()


@pytest.fixture
def clients(scratch: Path) -> Path:
    directory = scratch / "clients"
    directory.mkdir()
    return directory


# Router advertisements


def test_a_private_network_has_no_router_but_all_else(place: Namespace) -> None:
    with place:
        told = advertised("eth0")
    expected = {
        "from": GATEWAY,
        "Stateful address conf.": "Yes",
        "Stateful other conf.": "Yes",
        "Router lifetime": "0 (0x00000000) seconds",
        "fd00:100::/64 On-link": "Yes",
        "fd00:100::/64 Autonomous address conf.": "No",
        "MTU": "1430 bytes (valid)",
        "Source link-layer address": GATEWAY_MAC.upper(),
        "DNS search list": "lan.ucloud.internal",
        "Recursive DNS server": "fd00:100::1",
    }
    assert {name: told.get(name) for name in expected} == expected


def test_metadata_is_reached_without_a_router(host: Host, place: Namespace, clients: Path) -> None:
    """By IPv6 as a neighbour, by IPv4 over the gateway, which a guest is told without asking."""
    host.resolver.reservations.add([WEB])
    with place:
        wait_for(lambda: has_route(METADATA6))
        found = ip(f"route get {METADATA6}")
        assert "dev eth0" in found
        assert "via" not in found
        assert ip("address show dev eth0 scope global") == ""  # no address was made of that prefix
        with dhclient(clients, 4, config="option routes code 121 = array of unsigned integer 8;") as client:
            assert client.bound()["routes"] == "32 169 254 169 254 10 1 0 1"


def has_route(address: str) -> bool:
    with suppress(subprocess.CalledProcessError):
        return bool(ip(f"route get {address}"))
    return False


def test_a_public_network_has_a_router_and_lets_guests_make_their_address(host: Host) -> None:
    with ExitStack() as stack:
        place = Namespace()
        stack.callback(place.close)
        host.plug(FAR, place)
        with place:
            told = advertised("eth0")
            wait_for(lambda: FAR.ipv6 in ip("address show dev eth0"))  # the kernel took it, and it is the same
            assert f"via {GATEWAY}" in ip("route get 2001:db8::1")
    assert told["Router lifetime"].startswith("9000 ")
    assert told[f"{NET.ipv6} Autonomous address conf."] == "Yes"
    assert told["MTU"] == "1400 bytes (valid)"


# DHCP


def test_a_guest_is_given_its_addresses(host: Host, place: Namespace, clients: Path) -> None:
    host.resolver.reservations.add([WEB, DB])
    with place:
        with dhclient(clients, 6) as client:
            given = client.bound()
        with dhclient(clients, 4) as client:
            given4 = client.bound()
    assert given["ip6_address"] == WEB.ipv6
    assert given["dhcp6_name_servers"] == "fd00:100::1"
    assert given["dhcp6_domain_search"] == "lan.ucloud.internal."
    assert given4["ip_address"] == WEB.ipv4
    assert given4["subnet_mask"] == "255.255.255.0"
    assert given4["interface_mtu"] == "1430"
    assert given4["domain_name_servers"] == "10.1.0.1"
    assert given4["domain_name"] == "lan.ucloud.internal"
    assert "routers" not in given4


@pytest.mark.parametrize(("family", "asks", "answers"), [(6, "XMT: Solicit", "RCV:"), (4, "DHCPDISCOVER", "DHCPOFFER")])
def test_who_is_not_known_is_not_answered(
    host: Host, place: Namespace, clients: Path, family: int, asks: str, answers: str
) -> None:
    stranger = Namespace()
    host.plug(DB, stranger)
    host.resolver.reservations.add([WEB])
    with ExitStack() as stack:
        stack.callback(stranger.close)
        with stranger:
            unknown = stack.enter_context(dhclient(clients, family))
        unknown.wait(asks)
        with place:
            stack.enter_context(dhclient(clients, family)).bound()  # others are answered meanwhile
        assert answers not in unknown.wait(asks, times=2)


def test_another_system_on_the_same_vm_gets_the_same_address_at_once(host: Host, place: Namespace, clients: Path) -> None:
    """It calls itself by another identifier (DUID), and has not heard of what was given to the one before."""
    host.resolver.reservations.add([WEB])
    with place:
        for kind in ("LL", "LLT"):
            with dhclient(clients, 6, "-D", kind) as client:
                assert client.bound()["ip6_address"] == WEB.ipv6
        for identifier in ("one", "two"):
            with dhclient(clients, 4, config=f'send dhcp-client-identifier "{identifier}";') as client:
                assert client.bound()["ip_address"] == WEB.ipv4


def test_another_address_is_given_instead_of_the_former(host: Host, place: Namespace, clients: Path) -> None:
    changed = replace(WEB, ipv4="10.1.0.99")
    host.resolver.reservations.add([WEB])
    with place, dhclient(clients, 4) as client:
        client.bound()
        host.resolver.reservations.remove([WEB.key])
        host.resolver.reservations.add([changed])
        with dhclient(clients, 4, leases=client.leases.read_text()) as again:
            assert again.bound()["ip_address"] == changed.ipv4


def test_a_removed_guest_is_not_given_its_address_again(host: Host, place: Namespace, clients: Path) -> None:
    host.resolver.reservations.add([WEB])
    with place:
        with dhclient(clients, 6) as client:
            client.bound()
        with dhclient(clients, 4) as client4:
            client4.bound()
        host.resolver.reservations.remove([WEB.key])
        with dhclient(clients, 6, leases=lease6(WEB.ipv6, age_s=4000)) as client:
            heard = client.wait("XMT: Solicit", times=2)  # it asked to renew, and was told to ask anew
            assert "RCV: Advertise" not in heard
        with dhclient(clients, 4, leases=client4.leases.read_text()) as client4:
            assert "DHCPACK" not in client4.wait("DHCPDISCOVER", times=2)


def test_a_guest_that_moved_is_given_its_address_by_the_new_host(
    host: Host, place: Namespace, clients: Path, scratch: Path
) -> None:
    other = Host(scratch / "other")
    with ExitStack() as stack:
        stack.callback(other.close)
        stack.enter_context(serving(other, LAN))
        host.resolver.reservations.add([WEB])
        with place, dhclient(clients, 6) as client:
            client.bound()
        with place, dhclient(clients, 4) as client4:
            client4.bound()
        other.resolver.reservations.add([WEB])
        other.plug(WEB, place)
        host.resolver.reservations.remove([WEB.key])
        with place:
            with dhclient(clients, 6, leases=lease6(WEB.ipv6, age_s=4000)) as client:
                client.wait(r"BOUND6\.", times=2)  # the one it remembered, then, after it asked to renew, the one it was given
                assert "XMT: Forming Renew" in client.heard
                assert client.bound()["ip6_address"] == WEB.ipv6
            with dhclient(clients, 4, leases=client4.leases.read_text()) as client4:
                assert client4.bound()["ip_address"] == WEB.ipv4
                assert "DHCPDISCOVER" not in client4.heard


def test_what_was_killed_serves_again_when_it_is_added_again(host: Host, place: Namespace, clients: Path) -> None:
    host.resolver.reservations.add([WEB])
    dnsmasq_process.end(list(dnsmasq_process.find(host.directory)))
    with host.space:
        assert set(host.resolver.services.actual().values()) == {None}
        host.resolver.services.add([LAN, NET])
        assert host.resolver.services.actual() == {LAN.key: LAN, NET.key: NET}
    with place, dhclient(clients, 6) as client:
        assert client.bound()["ip6_address"] == WEB.ipv6


@pytest.mark.parametrize("user", ["nobody's", "the network's own"])
def test_who_only_says_that_it_is_dnsmasq_is_not_believed(host: Host, user: str) -> None:
    """A qemu that its guest has taken over writes what it likes into its command line and environment; so does a dnsmasq."""
    service = replace(LAN, ipv6="no prefix")
    launch = dnsmasq_process.Launch(service=service, program="dns", bridge=1, guests=1, names=1)
    told = {"UCLOUD_DIRECTORY": f"{host.directory}/{LAN.key}", "UCLOUD_LAUNCH": msgspec.json.encode(launch).decode()}
    number = 65534 if user == "nobody's" else uid(LAN.vni)
    with host.space:
        if user != "nobody's":
            dnsmasq_process.end(list(dnsmasq_process.find(host.directory)))
        liar = subprocess.Popen(["dnsmasq", "600"], executable="/bin/sleep", env=told, user=number)
        try:
            wait_for(lambda: command_of(PROC / str(liar.pid)) == ("dnsmasq", "600"))
            seen = host.resolver.services.actual()[LAN.key]
            assert seen == (LAN if user == "nobody's" else None)
            host.resolver.services.add([LAN, NET])
            assert host.resolver.services.actual() == {LAN.key: LAN, NET.key: NET}
        finally:
            liar.kill()
            liar.wait()


def test_guests_behind_all_filters_get_all_of_it_from_their_own_host(scratch: Path, clients: Path) -> None:
    segment = segment_of(LAN)
    with underlay(hosts=2) as wires, ExitStack() as stack:
        for number, (guest, space) in enumerate(zip((WEB, DB), wires.hosts, strict=True), 1):
            place, plug = stack.enter_context(closing(Namespace())), tap(guest.vni, guest.vm)
            addresses = (guest.ipv6, guest.ipv4)
            resolver = DnsmasqResolver(scratch / f"h{number}", [])
            stack.callback(
                lambda run_dir: dnsmasq_process.end(list(dnsmasq_process.find(run_dir))), scratch / f"h{number}/resolver"
            )
            with space:
                overlay, packet_filter = LinuxOverlay("up0", wires.address(number)), NftPacketFilter("up0", ["fd00:aa::/64"])
                overlay.prepare()
                packet_filter.prepare()
                packet_filter.zones.add([segment])
                overlay.segments.add([segment])
                packet_filter.filters.add([PortFilter(vm=guest.vm, vni=guest.vni, mac=guest.mac, addresses=addresses)])
                ip(f"link add {plug} type veth peer name eth0 address {guest.mac} netns {place.path}")
                ip(f"link set {plug} master {bridge(guest.vni)} up", f"route add {guest.ipv6} dev {bridge(guest.vni)}")
                resolver.services.add([LAN])
                resolver.reservations.add([guest])
                resolver.names.add([name_of(WEB), name_of(DB)])
            with place:
                ip("link set eth0 up")
                wait_for(lambda place=place: is_ready(place))
                assert advertised("eth0")["from"] == GATEWAY
                for family, given in ((6, ("ip6_address", guest.ipv6)), (4, ("ip_address", guest.ipv4))):
                    with dhclient(clients, family) as client:
                        assert client.bound()[given[0]] == given[1]
            with addressed(place, guest):
                wait_for(lambda: ask("db", "AAAA") == ("NOERROR", [DB.ipv6]))


def test_a_full_log_is_no_reason_to_stop(host: Host, place: Namespace) -> None:
    log = host.directory / LAN.key / "log"
    os.truncate(log, dnsmasq_process.LOG_BYTES)
    host.resolver.names.add([name_of(WEB)])  # it would say so in its log
    with addressed(place, WEB):
        wait_for(lambda: ask("web", "AAAA") == ("NOERROR", [WEB.ipv6]))
    with host.space:
        assert host.resolver.services.actual()[LAN.key] == LAN
    assert log.stat().st_size < dnsmasq_process.LOG_BYTES


def test_a_connection_that_is_kept_open_is_served_and_ended_with_the_rest(host: Host, place: Namespace) -> None:
    """dnsmasq starts a process for each."""

    def processes() -> int:
        return sum(process.directory.name == LAN.key for process in dnsmasq_process.find(host.directory))

    with addressed(place, WEB), socket.create_connection(("fd00:100::1", 53), timeout=PATIENCE_S):
        wait_for(lambda: processes() == 4)
        with host.space:
            assert host.resolver.services.actual()[LAN.key] == LAN
            host.resolver.services.remove([LAN.key])
        assert processes() == 0


# DNS


def ask(name: str, kind: str, server: str = "fd00:100::1", timeout_s: float = PATIENCE_S) -> tuple[str, list[str]]:
    """The code of the answer, and what is in it."""
    answer = dns.query.udp(dns.message.make_query(name, kind), server, timeout=timeout_s)
    return dns.rcode.to_text(answer.rcode()), sorted(str(item) for found in answer.answer for item in found)


def ask_tcp(name: str, kind: str) -> list[str]:
    answer = dns.query.tcp(dns.message.make_query(name, kind), "fd00:100::1", timeout=PATIENCE_S)
    return [str(item) for found in answer.answer for item in found]


@contextmanager
def addressed(place: Namespace, guest: Reservation) -> Iterator[None]:
    """The guest uses its IPv6 address."""
    with place:
        ip(f"address replace {guest.ipv6}/64 dev eth0 nodad", f"route replace default via {GATEWAY} dev eth0")
        yield


def test_vms_are_found_by_name_and_by_address(host: Host, place: Namespace) -> None:
    host.resolver.names.add([name_of(WEB), name_of(DB)])
    with addressed(place, WEB):
        wait_for(lambda: ask("db.lan.ucloud.internal", "AAAA") == ("NOERROR", [DB.ipv6]))
        assert ask("db", "AAAA") == ("NOERROR", [DB.ipv6])
        assert ask("db.lan.ucloud.internal", "A") == ("NOERROR", [DB.ipv4])
        assert ask_tcp("db.lan.ucloud.internal", "AAAA") == [DB.ipv6]
        for address in (DB.ipv6, DB.ipv4):
            assert ask(str(dns.reversename.from_address(address)), "PTR") == ("NOERROR", ["db.lan.ucloud.internal."])
        host.resolver.names.add([replace(name_of(DB), name="sql")])
        wait_for(lambda: ask("sql.lan.ucloud.internal", "AAAA") == ("NOERROR", [DB.ipv6]))
        wait_for(lambda: ask("db.lan.ucloud.internal", "AAAA") == ("NXDOMAIN", []))
        host.resolver.names.remove([DB.key])
        wait_for(lambda: ask("sql.lan.ucloud.internal", "AAAA") == ("NXDOMAIN", []))


def test_nobody_becomes_what_the_cloud_itself_is_called(host: Host, place: Namespace, clients: Path) -> None:
    host.resolver.reservations.add([WEB])
    host.resolver.names.add([name_of(WEB, "metadata"), name_of(DB)])
    with addressed(place, WEB):
        wait_for(lambda: ask("db", "AAAA") == ("NOERROR", [DB.ipv6]))
        for family in (4, 6):
            config = 'send host-name "bank"; send fqdn.fqdn "bank.lan.ucloud.internal"; send fqdn.server-update on;'
            with dhclient(clients, family, config=config) as client:
                client.bound()
        for kind, answers in (("AAAA", ["fd00:100::1"]), ("A", ["10.1.0.1"])):
            for name in ("bank", "bank.lan.ucloud.internal"):
                assert ask(name, kind) == ("NXDOMAIN", [])
            for name in ("metadata", "metadata.lan.ucloud.internal", "metadata.ucloud.internal"):
                assert ask(name, kind) == ("NOERROR", answers)
        assert ask("metadata.net.ucloud.internal", "AAAA") == ("NXDOMAIN", [])


@contextmanager
def asked_by_others(host: Host) -> Iterator[list[str]]:
    """A DNS server outside. Yields the names that it was asked for; it answers 2001:db8::1."""
    asked: list[str] = []
    with host.space:
        ip(f"address add {RESOLVER}/128 dev lo nodad")
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        listener.bind((RESOLVER, 53))

    def serve() -> None:
        while (received := listener.recvfrom(4096))[0] != b"end":
            query = dns.message.from_wire(received[0])
            asked.append(str(query.question[0].name))
            answer = dns.message.make_response(query)
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "AAAA", "2001:db8::1"))
            listener.sendto(answer.to_wire(), received[1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with host.space, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", (RESOLVER, 53))
        thread.join()
        listener.close()


def test_what_is_ours_is_never_asked_of_others(scratch: Path) -> None:
    host, place = Host(scratch / "host", (RESOLVER,)), Namespace()
    with ExitStack() as stack:
        stack.callback(place.close)
        stack.callback(host.close)
        asked = stack.enter_context(asked_by_others(host))
        stack.enter_context(serving(host, LAN))
        host.plug(WEB, place)
        stack.enter_context(addressed(place, WEB))
        for name in ("nobody", "nobody.lan.ucloud.internal", "web.other.ucloud.internal", "ucloud.internal"):
            assert ask(name, "AAAA")[1] == []
        for address in ("fd00:100::77", "fd99::1", "10.1.0.77", "192.168.1.1", "fe80::1"):
            assert ask(str(dns.reversename.from_address(address)), "PTR") == ("NXDOMAIN", [])
        assert ask("www.example.com", "AAAA") == ("NOERROR", ["2001:db8::1"])
        assert {name.lower() for name in asked} == {"www.example.com."}


def test_without_resolvers_names_of_others_are_refused(place: Namespace) -> None:
    with addressed(place, WEB):
        assert ask("www.example.com", "AAAA") == ("REFUSED", [])


def test_a_networks_dns_answers_its_own_guests_alone(host: Host) -> None:
    """Its address is the host's: it is the packet filter that keeps others away, of other networks and from outside."""
    with closing(Namespace()) as elsewhere, closing(Namespace()) as outside:
        host.plug(FAR, elsewhere)
        with host.space:
            packet_filter = NftPacketFilter("up0", ["fd00:aa::/64"])
            packet_filter.zones.add([segment_of(LAN), segment_of(NET)])
            packet_filter.filters.add([PortFilter(vm=FAR.vm, vni=FAR.vni, mac=FAR.mac, addresses=(FAR.ipv6,))])
            ip(f"link add up0 type veth peer name up0 netns {outside.path}", "link set up0 up")
            ip("address add fd00:bb::1/64 dev up0 nodad")
        with addressed(elsewhere, FAR):
            wait_for(lambda: ask("www.example.com", "AAAA", server="fd00:200::1") == ("REFUSED", []))
            with pytest.raises(Timeout):
                ask("www.example.com", "AAAA", timeout_s=SILENCE_S)
        with outside:
            ip("link set up0 up", "address add fd00:bb::2/64 dev up0 nodad", "route add fd00:200::/64 via fd00:bb::1")
            subprocess.run(["ping", "-c", "1", "-w", "20", "fd00:200::1"], check=True, capture_output=True, timeout=60)
            with pytest.raises(Timeout):
                ask("www.example.com", "AAAA", server="fd00:200::1", timeout_s=SILENCE_S)
