"""The sets of the overlay driver for the contract tests: networks and plugs of a host that is a network namespace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from things import Action, Subject

from tests.namespaces import Underlay, ip, underlay
from ucloud.driver.overlay import iproute
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.overlay.names import bridge, tap, vxlan
from ucloud.model.wiring import Plug, Segment

PUBLIC = Segment(vni=10, group="ff05::a", mtu=1430, gateways=("fd00:10::1/64",), public=True)
PRIVATE = Segment(vni=0xFFFFFF, group="ff05::ff:ffff", mtu=1430, gateways=("fd00:20::1/64", "10.1.0.1/24"), public=False)
BRIDGE, VXLAN = bridge(PUBLIC.vni), vxlan(PUBLIC.vni)

WEB = Plug(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y2z",
    vni=PUBLIC.vni,
    mac="02:00:00:00:00:01",
    mtu=1430,
    addresses=("fd00:10::ff:fe00:1",),
    public=True,
)
DB = Plug(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y33",
    vni=PRIVATE.vni,
    mac="02:00:00:00:00:02",
    mtu=1430,
    addresses=("fd00:20::ff:fe00:2", "10.1.0.7"),
    public=False,
)
TAP = tap(WEB.vni, WEB.vm)


def by_hand(*commands: str) -> Action:
    return lambda: ip(*commands)


@contextmanager
def on_a_host() -> Iterator[Callable[[], LinuxOverlay]]:
    """This thread is on it meanwhile. Yields what makes the driver, as each daemon does."""

    def driver() -> LinuxOverlay:
        return LinuxOverlay("up0", Underlay.address(1))

    with underlay(hosts=1) as wires, wires.hosts[0]:
        driver().prepare()
        yield driver


@contextmanager
def segments() -> Iterator[Subject]:
    def refuse() -> Action:
        ip("link set up0 mtu 1499")
        return by_hand("link set up0 mtu 1500")

    with on_a_host() as driver:
        yield Subject(
            make=lambda: driver().segments,
            one=PUBLIC,
            changed=msgspec.structs.replace(PUBLIC, mtu=1400, gateways=("fd00:10::1/64", "10.2.0.1/16"), public=False),
            other=PRIVATE,
            refuse=refuse,
            damages={
                "no bridge": by_hand(f"link delete {BRIDGE}"),
                "no VXLAN": by_hand(f"link delete {VXLAN}"),
                "nothing": by_hand(f"link delete {BRIDGE}", f"link delete {VXLAN}"),
                "bridge down": by_hand(f"link set {BRIDGE} down"),
                "VXLAN down": by_hand(f"link set {VXLAN} down"),
                "VXLAN outside": by_hand(f"link set {VXLAN} nomaster"),
                "another VXLAN": by_hand(
                    f"link delete {VXLAN}",
                    f"link add {VXLAN} mtu 1430 type vxlan id 11 group ff05::b local fd00:aa::1 dev up0 dstport 4789 ttl 8",
                    f"link set {VXLAN} master {BRIDGE} up",
                ),
                "another MAC": by_hand(f"link set {BRIDGE} address 02:00:00:00:00:99"),
                "bridge's MTU": by_hand(f"link set {BRIDGE} mtu 1300"),
                "VXLAN's MTU": by_hand(f"link set {VXLAN} mtu 1300"),
                "an address more": by_hand(f"address add fd00:99::1/64 dev {BRIDGE}"),
                "an address less": by_hand(f"address delete fd00:10::1/64 dev {BRIDGE}"),
                "no link-local address": by_hand(f"address delete fe80::1/64 dev {BRIDGE}"),
                "no address of metadata": by_hand(f"address delete fe80::a9fe:a9fe/128 dev {BRIDGE}"),
                "metadata's address as any other": by_hand(
                    f"address delete fd00:ec2::254/64 dev {BRIDGE}",
                    f"address add fd00:ec2::254/64 dev {BRIDGE} nodad noprefixroute",
                ),
                "metadata by IPv4 where there is none": by_hand(f"address add 169.254.169.254/32 dev {BRIDGE} noprefixroute"),
                "a route to all of it": by_hand(f"address change fd00:10::1/64 dev {BRIDGE}"),
                "VXLAN heard by the host": lambda: iproute.set_kernel(f"ipv6/conf/{VXLAN}/disable_ipv6", "0"),
                "snooping": by_hand(f"link set {BRIDGE} type bridge mcast_snooping 1"),
                "no alias": by_hand(f'link set {BRIDGE} alias ""'),
                "no bridge by that name": by_hand(f"link delete {BRIDGE}", f"tuntap add {BRIDGE} mode tap"),
            },
            strays={
                "bridge": by_hand(f"link add {bridge(77)} type bridge"),
                "VXLAN": by_hand(f"link add {vxlan(78)} type vxlan id 78 dev up0 dstport 4789"),
                "neither": by_hand(f"tuntap add {bridge(79)} mode tap"),
            },
        )


@contextmanager
def plugs() -> Iterator[Subject]:
    def refuse() -> Action:
        taken = tap(DB.vni, DB.vm)
        ip(f"tuntap add {taken} mode tap", f'link set {taken} alias "ucloud x{DB.vm} {DB.mac} public fd00::1"')
        return by_hand(f"link delete {taken}")

    def with_header() -> None:
        """But for that it is as it was."""
        alias = iproute.links([TAP])[TAP].ifalias
        ip(f"link delete {TAP}", f"tuntap add {TAP} mode tap vnet_hdr", f'link set {TAP} alias "{alias}"')
        for setting, value in iproute.silence(TAP):
            iproute.set_kernel(setting, value)
        ip(f"link set {TAP} mtu {WEB.mtu} master {BRIDGE} up")

    with on_a_host() as driver:
        driver().segments.add([PUBLIC, PRIVATE])
        yield Subject(
            make=lambda: driver().plugs,
            one=WEB,
            changed=msgspec.structs.replace(WEB, mtu=1300, addresses=("fd00:10::77", "10.2.0.7"), public=False),
            other=DB,
            refuse=refuse,
            damages={
                "no tap": by_hand(f"link delete {TAP}"),
                "down": by_hand(f"link set {TAP} down"),
                "unplugged": by_hand(f"link set {TAP} nomaster"),
                "plugged into another": by_hand(f"link set {TAP} master {bridge(PRIVATE.vni)}"),
                "MTU": by_hand(f"link set {TAP} mtu 1300"),
                "no tap by that name": by_hand(f"link delete {TAP}", f"link add {TAP} type bridge"),
                "tap just made": by_hand(f"link delete {TAP}", f"tuntap add {TAP} mode tap"),
                "tap that takes virtio's header": with_header,
                "tap heard by the host": lambda: iproute.set_kernel(f"ipv6/conf/{TAP}/disable_ipv6", "0"),
                "no alias": by_hand(f'link set {TAP} alias ""'),
                "another alias": by_hand(f'link set {TAP} alias "mine"'),
                "no route": by_hand(f"route delete {WEB.addresses[0]} dev {BRIDGE}"),
                "a route of another protocol": by_hand(f"route replace {WEB.addresses[0]} dev {BRIDGE} protocol 202"),
                "no neighbour": by_hand(f"neighbour delete {WEB.addresses[0]} dev {BRIDGE}"),
                "another neighbour": by_hand(
                    f"neighbour replace {WEB.addresses[0]} dev {BRIDGE} lladdr 02:00:00:00:00:99 nud permanent"
                ),
            },
            strays={
                "tap": by_hand(f"tuntap add {TAP[:-1]}0 mode tap"),
                "tap of another name": by_hand(
                    f"tuntap add {TAP[:-1]}1 mode tap", f'link set {TAP[:-1]}1 alias "ucloud {WEB.vm} {WEB.mac} public"'
                ),
                "public route": by_hand(f"route add fd00:10::99 dev {BRIDGE} protocol 201"),
                "route to many": by_hand(f"route add fd00:10:0:0:77::/80 dev {BRIDGE} protocol 201"),
                "private route": by_hand(f"route add 10.9.9.9 dev {BRIDGE} protocol 202"),
            },
        )
