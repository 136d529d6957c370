"""Three hosts with guests on four networks and the world outside, all in namespaces: where test_attacks.py happens.

Guests are taps that the test holds open: what it writes comes from the guest, what it reads was sent to the guest. All is done
by one processor, in the order in which it was sent: once a frame has come through, those before it have come through or never
will.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address
from typing import Protocol, TypeVar

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.namespaces import Namespace, Underlay, ip, underlay
from ucloud.driver.overlay import iproute, names
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.overlay.plugs import IFF_NO_PI, IFF_TAP, TUNSETIFF
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.model.eui64 import address, link_local
from ucloud.model.network import Allowed
from ucloud.model.wiring import Plug, PortFilter, Segment, Taken

MTU = 1430
DEADLINE_S = 20.0
WORLD, WORLD_ON_WIRE = "fd00:ee::1", "fd00:aa::ff"
WORLD_MAC, HOST_MAC = "02:ff:00:00:00:ff", "02:ff:00:00:00:01"  # the first host's on the underlay
DAEMON_PORT = 2379  # etcd's


class Network:
    def __init__(self, vni: int, ipv6: str, ipv4: str = "", public: bool = True) -> None:
        self.vni, self.ipv6, self.ipv4, self.public = vni, ipv6, ipv4, public
        self.gateway = str(IPv6Address(ipv6.partition("/")[0]) + 1)
        self.gateway4 = ipv4.replace(".0/", ".1/").partition("/")[0]

    def segment(self) -> Segment:
        gateways = (f"{self.gateway}/64", *([f"{self.gateway4}/24"] if self.ipv4 else []))
        return Segment(vni=self.vni, group=f"ff05::{self.vni:x}", mtu=MTU, gateways=gateways, public=self.public)


RED, BLUE = Network(0x10, "fd00:10::/64"), Network(0x20, "fd00:20::/64")
DARK, DIM = Network(0x30, "fd00:30::/64", "10.3.0.0/24", False), Network(0x40, "fd00:40::/64", "10.4.0.0/24", False)
NETWORKS = (RED, BLUE, DARK, DIM)


T = TypeVar("T", "Wire", "Daemon")


class Place(Protocol):
    """Where frames can be heard."""

    name: str

    def heard(self) -> Iterator[bytes]:
        """All that has come since."""


class Guest:
    """A VM's port. host: 1 to 3."""

    def __init__(self, name: str, network: Network, host: int, number: int, allow: tuple[Allowed, ...] = ()) -> None:
        self.name, self.network, self.host, self.allow = name, network, host, allow
        self.vm = f"vm-01kd2g5x8p6q0v3n9r{name:0>8}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.ip6, self.link_local = address(network.ipv6, self.mac), link_local(self.mac)
        self.ip4 = network.ipv4.replace(".0/24", f".{number + 10}")
        self.tap = names.tap(network.vni, self.vm)
        self.descriptor = -1

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.ip6, *([self.ip4] if self.ip4 else []))

    def filter(self) -> PortFilter:
        return PortFilter(vm=self.vm, vni=self.network.vni, mac=self.mac, addresses=self.addresses, allow=self.allow)

    def plug(self) -> Plug:
        network = self.network
        return Plug(vm=self.vm, vni=network.vni, mac=self.mac, mtu=MTU, addresses=self.addresses, public=network.public)

    def open(self) -> None:
        """As qemu has it. In the host's namespace."""
        self.descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.descriptor, TUNSETIFF, struct.pack("16sH22x", self.tap.encode(), IFF_TAP | IFF_NO_PI))

    def send(self, frame: bytes) -> None:
        os.write(self.descriptor, frame)

    def heard(self) -> Iterator[bytes]:
        try:
            while True:
                yield os.read(self.descriptor, 70000)
        except BlockingIOError:
            return


MALLORY = Guest("mallory", RED, 1, 1)
ALICE = Guest("alice", RED, 1, 2)
BOB = Guest("bob", RED, 2, 3)
CAROL = Guest("carol", RED, 3, 4)
BLUE_GUEST = Guest("blue", BLUE, 1, 5)
TRUDY = Guest("trudy", DARK, 1, 6)
DAVE = Guest("dave", DARK, 1, 7)
ERIN = Guest("erin", DARK, 2, 8)
ROUTER = Guest("router", DARK, 1, 9, allow=("ra", "dhcp"))
DIM_GUEST = Guest("dim", DIM, 1, 10)
GUESTS = (MALLORY, ALICE, BOB, CAROL, BLUE_GUEST, TRUDY, DAVE, ERIN, ROUTER, DIM_GUEST)


class Wire:
    """An interface on which all that comes and goes is heard, or only what goes."""

    def __init__(self, name: str, interface: str, only_sent: bool = False) -> None:
        self.name, self._only_sent = name, only_sent
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.bind((interface, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.setblocking(False)
        self.descriptor = self._socket.fileno()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def heard(self) -> Iterator[bytes]:
        try:
            while True:
                frame, (_, _, way, *_) = self._socket.recvfrom(70000)
                if way == socket.PACKET_OUTGOING or not self._only_sent:
                    yield frame
        except BlockingIOError:
            return

    def close(self) -> None:
        self._socket.close()


class Daemon:
    """Stands for those of the host itself: what UDP brings to its port, at whatever address."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.bind(("::", port))
        servers = socket.inet_pton(socket.AF_INET6, "ff02::1:2") + socket.if_nametoindex(names.bridge(RED.vni)).to_bytes(
            4, "little"
        )
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, servers)
        self._socket.setblocking(False)
        # Who asks, hears of it
        self._listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def heard(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._socket.recv(70000)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._socket.close()
        self._listener.close()


class Site:
    """ports: which the first host serves its guests at, for others than real servers to hear."""

    def __init__(self, wires: Underlay, stack: ExitStack, ports: Sequence[int]) -> None:
        self.hosts, self.stack = wires.hosts, stack
        self.filters: list[NftPacketFilter] = []
        self._connect_world(wires)
        for number in (1, 2, 3):
            with self.hosts[number - 1]:
                self._furnish(number)
        self._named = {wire.name: wire for wire in self._wires(wires)}
        self.places: list[Place] = [*GUESTS, *self._named.values(), *self._daemons(ports)]

    def _connect_world(self, wires: Underlay) -> None:
        """The router between the hosts and everybody else; it knows where public VMs are, and would find private ones."""
        self.world = Namespace()
        self.stack.callback(self.world.close)
        with wires.switch:
            ip(f"link add world master br0 type veth peer name up0 netns {self.world.path}", "link set world up")
        with self.world:
            ip(
                f"link set up0 address {WORLD_MAC} up",
                f"address add {WORLD_ON_WIRE}/64 dev up0 nodad",
                f"address add {WORLD}/128 dev lo",
            )
            ip(*known_neighbours())
            for guest in GUESTS:
                ip(f"route add {guest.ip6} via {Underlay.address(guest.host)} dev up0")

    def _furnish(self, number: int) -> None:
        ip(f"link set up0 address {host_mac(number)}", f"route add default via {WORLD_ON_WIRE} dev up0", *known_neighbours())
        iproute.set_kernel("ipv4/conf/all/forwarding", "1")  # as some hosts have it
        overlay = LinuxOverlay("up0", Underlay.address(number))
        overlay.prepare()
        overlay.segments.add(segments_of(number))
        self.filters.append(NftPacketFilter("up0", ["fd00:aa::/64"]))
        self.filters[-1].prepare()
        self._filter(number)
        here = [guest for guest in GUESTS if guest.host == number]
        overlay.plugs.add([guest.plug() for guest in here])
        for guest in here:
            guest.open()
            self.stack.callback(os.close, guest.descriptor)

    def _filter(self, number: int) -> None:
        filters = self.filters[number - 1]
        filters.zones.add(segments_of(number))
        filters.filters.add([guest.filter() for guest in GUESTS if guest.host == number])
        filters.taken.add([Taken(vni=guest.network.vni, address=guest.link_local) for guest in GUESTS])

    def _wires(self, wires: Underlay) -> Iterator[Wire]:
        with wires.switch:
            yield self._opened(Wire("underlay", "port1"))
        with self.world:
            yield self._opened(Wire("world", "up0"))
        for number in (1, 2, 3):
            with self.hosts[number - 1]:
                yield self._opened(Wire(f"host {number}", names.bridge(RED.vni)))
        with self.hosts[0]:
            yield self._opened(Wire("host 1 private", names.bridge(DARK.vni)))

    def _daemons(self, ports: Sequence[int]) -> Iterator[Daemon]:
        for number in (1, 2):
            with self.hosts[number - 1]:
                yield self._opened(Daemon(f"daemon on host {number}", DAEMON_PORT))
        with self.hosts[0]:
            for port in ports:
                yield self._opened(Daemon(f"port {port} on host 1", port))

    def _opened(self, it: T) -> T:
        self.stack.callback(it.close)
        return it

    def send(self, by: Guest | str, frame: bytes) -> None:
        """by: a guest, or the name of the wire that it comes from."""
        (by if isinstance(by, Guest) else self._named[by]).send(frame)

    def introduce(self) -> None:
        """Bridges know where everybody is."""
        for guest in GUESTS:
            guest.send(to_all(guest, b""))

    @contextmanager
    def unfiltered(self) -> Iterator[None]:
        """Somebody deletes the tables; in the end all is as the daemons want it."""
        for host in self.hosts:
            with host:
                subprocess.run(["nft", "delete table bridge ucloud; delete table inet ucloud"], check=True, timeout=60)
        try:
            yield
        finally:
            for number in (1, 2, 3):
                with self.hosts[number - 1]:
                    self._filter(number)

    def heard(self, told_by: Guest = MALLORY) -> dict[str, list[bytes]]:
        """What came to each place since it was asked last, up to something that this guest, as it may, tells its network."""
        mark = os.urandom(16)
        told_by.send(to_all(told_by, mark))
        heard = self.rest()
        waiting = [other for other in GUESTS if other.network is told_by.network and other is not told_by]
        deadline_s = time.monotonic() + DEADLINE_S
        while not all(any(mark in frame for frame in heard[other.name]) for other in waiting):
            assert time.monotonic() < deadline_s, f"not all of {[guest.name for guest in waiting]} hear {told_by.name}"
            select.select([guest.descriptor for guest in waiting], [], [], 1.0)
            for name, frames in self.rest().items():
                heard[name] += frames
        return {name: [frame for frame in frames if mark not in frame] for name, frames in heard.items()}

    def rest(self) -> dict[str, list[bytes]]:
        """What has come by now."""
        return {place.name: list(place.heard()) for place in self.places}


def host_mac(number: int) -> str:
    return f"{HOST_MAC[:-1]}{number}"


def known_neighbours() -> list[str]:
    """Nobody on the underlay has to ask, and to wait, before a packet goes out."""
    macs = {Underlay.address(number): host_mac(number) for number in (1, 2, 3)} | {WORLD_ON_WIRE: WORLD_MAC}
    return [f"neighbour replace {address} lladdr {mac} dev up0 nud permanent" for address, mac in macs.items()]


def segments_of(host: int) -> list[Segment]:
    return [
        network.segment() for network in NETWORKS if any(guest.network is network for guest in GUESTS if guest.host == host)
    ]


def to_all(guest: Guest, mark: bytes) -> bytes:
    packet = IPv6(src=guest.ip6, dst="ff02::1") / UDP(sport=9, dport=9) / Raw(mark)
    return bytes(Ether(src=guest.mac, dst="33:33:00:00:00:01") / packet)


@contextmanager
def site(ports: Sequence[int] = (53, 67, 80, 547)) -> Iterator[Site]:
    processors = os.sched_getaffinity(0)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, processors)
        os.sched_setaffinity(0, {min(processors)})
        yield Site(stack.enter_context(underlay(hosts=3)), stack, ports)
