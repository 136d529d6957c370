"""What the tools of thc-ipv6 send from inside a guest comes nowhere. Judged by rules of our own, not by those of the filter."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from select import select

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6ND_Redirect, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.integration.attack_site import (
    ALICE,
    BOB,
    CAROL,
    DEADLINE_S,
    MALLORY,
    MTU,
    RED,
    Guest,
    Site,
    Wire,
    site,
    to_all,
)
from tests.namespaces import Namespace, ip
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC, bridge
from ucloud.model.wiring import Taken

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("atk6-fake_router6"), reason="needs root and thc-ipv6")

FRAMES = 20  # of each tool, or fewer if it ends by itself
TOOLBOX = Guest("toolbox", RED, 1, 0x70)
TOOLS = [
    "fake_router6 eth0 fd00:bad::/64",
    "fake_router6 -H eth0 fd00:bad::/64",
    "fake_router6 -F eth0 fd00:bad::/64",
    "fake_router6 -D eth0 fd00:bad::/64",
    "fake_router26 -A fd00:bad::/64 eth0",
    "flood_router6 eth0",
    "flood_router6 -HFD eth0",
    "flood_router26 eth0",
    f"kill_router6 eth0 {GATEWAY}",
    f"fake_advertise6 eth0 {ALICE.ip6}",
    f"fake_advertise6 -H eth0 {ALICE.ip6}",
    f"fake_advertise6 -D eth0 {RED.gateway}",
    "flood_advertise6 eth0",
    "flood_advertise6 -k eth0",
    "flood_solicitate6 eth0",
    "flood_redir6 eth0",
]


class Toolbox:
    """A guest that is a namespace, with programs; in place of a tap there is a cable of the same name."""

    def __init__(self, place: Site, inside: Namespace) -> None:
        self.place, self.inside = place, inside
        with place.hosts[0]:
            ip(
                f"link add {TOOLBOX.tap} mtu {MTU} type veth peer name eth0 address {TOOLBOX.mac} netns {inside.path}",
                f"link set {TOOLBOX.tap} addrgenmode none",
                f"link set {TOOLBOX.tap} master {bridge(RED.vni)} up",
            )
        for host, filters in zip(place.hosts, place.filters, strict=True):
            with host:
                filters.taken.add([Taken(vni=RED.vni, address=TOOLBOX.link_local)])
        self.admit()
        with inside:
            ip(
                f"link set eth0 mtu {MTU} up",
                f"address add {TOOLBOX.ip6}/64 dev eth0 nodad",
                f"route add default via {GATEWAY} dev eth0",
                f"neighbour replace {GATEWAY} lladdr {GATEWAY_MAC} dev eth0 nud permanent",
            )
            self.wire = Wire("toolbox", "eth0", only_sent=True)

    def admit(self) -> None:
        with self.place.hosts[0]:
            self.place.filters[0].filters.add([TOOLBOX.filter()])

    def run(self, command: str) -> int:
        """It sends what it sends; answers how much."""
        sent, deadline_s = 0, time.monotonic() + DEADLINE_S
        list(self.wire.heard())  # what the tool before sent, too
        with self.inside:
            tool = subprocess.Popen(
                ["atk6-" + command.split()[0], *command.split()[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            while sent < FRAMES and time.monotonic() < deadline_s:
                select([self.wire.descriptor], [], [], 0.1)
                ended = tool.poll() is not None
                sent += sum(map(is_lie, islice(self.wire.heard(), FRAMES)))  # a flood has no end
                if ended or (sent and not command.startswith("flood")):  # the others go on in a few seconds
                    break
        finally:
            tool.kill()
            tool.wait()
        return sent

    def lies_heard(self) -> list[str]:
        """Where, up to something true that everybody hears. After a flood there may be no room for it at first."""
        listeners = {guest.name for guest in (MALLORY, ALICE, BOB, CAROL)}
        heard, mark, deadline_s = self.place.rest(), os.urandom(16), time.monotonic() + DEADLINE_S
        while not all(any(mark in frame for frame in heard[name]) for name in listeners):
            assert time.monotonic() < deadline_s
            self.wire.send(to_all(TOOLBOX, mark))
            for name, frames in self.place.rest().items():
                heard[name] += frames
        return sorted(name for name in {*listeners, "host 1"} if any(map(is_lie, heard[name])))


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    with site(ports=()) as place, namespace() as inside:
        toolbox = Toolbox(place, inside)
        yield toolbox
        toolbox.wire.close()


@contextmanager
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


def test_no_tool_is_heard(toolbox: Toolbox) -> None:
    toolbox.lies_heard()
    for tool in TOOLS:
        assert toolbox.run(tool), tool
        assert toolbox.lies_heard() == [], tool


def test_each_tool_would_be_heard_but_for_the_filters(toolbox: Toolbox) -> None:
    with toolbox.place.unfiltered():
        for tool in TOOLS:
            assert toolbox.run(tool), tool
            assert "alice" in toolbox.lies_heard(), tool
    toolbox.admit()


def is_lie(frame: bytes) -> bool:
    """Nobody but the gateway speaks as it does; the toolbox speaks for itself alone."""
    packet: Packet = Ether(frame)
    if packet.src == GATEWAY_MAC or packet.src in [guest.mac for guest in (MALLORY, ALICE, BOB, CAROL)]:
        return False
    own = {TOOLBOX.ip6, TOOLBOX.link_local, "::"}
    return (
        packet.src != TOOLBOX.mac
        or (IPv6 in packet and packet[IPv6].src not in own)
        or IPv6ExtHdrFragment in packet  # who has nothing to hide sends none here
        or ICMPv6ND_RA in packet
        or ICMPv6ND_Redirect in packet
        or (ICMPv6ND_NA in packet and packet[ICMPv6ND_NA].tgt not in own)
        or (UDP in packet and packet[UDP].sport == 547)
    )
