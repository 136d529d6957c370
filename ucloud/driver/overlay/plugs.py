"""Where guests' interfaces are plugged in: persistent taps of a Linux host, and routes to their addresses. See `LinuxOverlay`.

A tap's alias says what cannot be read elsewhere: whose it is, its guest's MAC and addresses, and whether they are public.
It takes frames without virtio's header: with one, a guest could have any two bytes of a frame written, as its "checksum", after
the packet filter has looked at it. Addresses have permanent neighbour entries: the host never asks for them, and nobody else
can answer.
"""

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ucloud.base.errors import Temporary
from ucloud.driver.overlay import iproute, names, netlink
from ucloud.driver.overlay.iproute import Link, Neighbour, Route
from ucloud.model.wiring import Plug

NAME = re.compile(rf"{names.TAP}([0-9a-f]{{6}})([0-9a-z]{{7}})")
BRIDGE = re.compile(rf"{names.BRIDGE}[0-9a-f]{{6}}")
PROTOCOLS = str(names.ROUTE_PUBLIC), str(names.ROUTE_PRIVATE)
ALIAS = re.compile(r"ucloud (\S+) ([0-9a-f:]{17}) (public|private)((?: [0-9a-f.:]+)*)")
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000

TAP = {"type": "tap", "persist": True, "vnet_hdr": False}

Place = tuple[str, str]  # a bridge, and an address on it


class Plugs:
    name = "plug"

    def interface(self, key: str) -> str:
        """The tap's name."""
        return names.tap(*parts(key))

    def actual(self) -> Mapping[str, Plug | None]:
        """A tap that is nobody's has the key VNI/END-OF-ITS-NAME, a route to nobody VNI/ADDRESS."""
        links, routes, neighbours = iproute.links(), iproute.routes(), iproute.neighbours()
        found: dict[str, Plug | None] = {}
        for name in filter(NAME.fullmatch, links):
            if plug := owner(links[name]):
                stands = is_plugged(plug, links) and set(routes_to(plug)) <= routes and set(neighbours_of(plug)) <= neighbours
                found[plug.key] = plug if stands else None
            else:
                found[f"{int(name[2:8], 16)}/{name[8:]}"] = None
        claims = claimed(links.values())
        strays = [route for route in routes if is_ours(route) and (route.dev, route.dst) not in claims]
        return found | {f"{int(route.dev[3:], 16)}/{route.dst}": None for route in strays}

    def add(self, things: Sequence[Plug]) -> None:
        links = iproute.links([name for plug in things for name in (names.bridge(plug.vni), self.interface(plug.key))])
        for plug in things:
            check(plug, links)
        cut_off(claimed(links.values()) - {place for plug in things for place in places(plug)})
        for plug in things:
            make_tap(self.interface(plug.key), links)
        iproute.change([command for plug in things for command in connect(plug)])
        for plug in things:
            make_reachable(plug)

    def remove(self, keys: Sequence[str]) -> None:
        taps = {self.interface(key): key for key in keys if not is_stray(key)}
        if strays := {(names.bridge(vni), address) for vni, address in map(parts, filter(is_stray, keys))}:
            cut_off(strays - claimed(iproute.links().values()))
        leaving = [link for name, link in iproute.links(list(taps)).items() if is_free_or(link, taps[name])]
        cut_off(claimed(leaving))
        iproute.change([f"link delete {link.ifname}" for link in leaving])


def parts(key: str) -> tuple[int, str]:
    vni, _, end = key.partition("/")
    return int(vni), end


def is_stray(key: str) -> bool:
    """It is that of a route."""
    return re.search("[:.]", key) is not None


def owner(tap: Link | None) -> Plug | None:
    """Whose a tap is, by what it says itself; nobody's where it does not say, or bears another's name."""
    if tap is None or not (alias := ALIAS.fullmatch(tap.ifalias)) or not (name := NAME.fullmatch(tap.ifname)):
        return None
    vm, mac, public, addresses = alias.groups()
    plug = Plug(
        vm=vm, vni=int(name[1], 16), mac=mac, mtu=tap.mtu, addresses=tuple(addresses.split()), public=public == "public"
    )
    return plug if names.tap(plug.vni, vm) == tap.ifname else None


def alias_of(plug: Plug) -> str:
    return " ".join(["ucloud", plug.vm, plug.mac, "public" if plug.public else "private", *plug.addresses])


def places(plug: Plug) -> Iterator[Place]:
    return ((names.bridge(plug.vni), address) for address in plug.addresses)


def claimed(links: Iterable[Link]) -> set[Place]:
    return {place for link in links if (plug := owner(link)) for place in places(plug)}


def is_free_or(tap: Link, key: str) -> bool:
    plug = owner(tap)
    return plug is None or plug.key == key


def routes_to(plug: Plug) -> Iterator[Route]:
    """IPv4 is private: no router outside is told of it."""
    for bridge, address in places(plug):
        yield Route(address, bridge, PROTOCOLS[0] if plug.public and ":" in address else PROTOCOLS[1])


def is_ours(route: Route) -> bool:
    return route.protocol in PROTOCOLS and BRIDGE.fullmatch(route.dev) is not None


def neighbours_of(plug: Plug) -> Iterator[Neighbour]:
    return (Neighbour(address, bridge, plug.mac) for bridge, address in places(plug))


def is_tap(link: Link | None) -> bool:
    return link is not None and link.kind == "tun" and TAP.items() <= link.linkinfo.info_data.items()


def is_plugged(plug: Plug, links: Mapping[str, Link]) -> bool:
    tap = links[names.tap(plug.vni, plug.vm)]
    return is_tap(tap) and tap.up and tap.master == names.bridge(plug.vni) and iproute.kernel_says(iproute.silence(tap.ifname))


def check(plug: Plug, links: Mapping[str, Link]) -> None:
    bridge, tap = names.bridge(plug.vni), names.tap(plug.vni, plug.vm)
    if bridge not in links:
        raise Temporary(f"{plug.vm} cannot be plugged into {bridge}: there is no such bridge")
    if (whose := owner(links.get(tap))) and whose.vm != plug.vm:
        raise Temporary(f"{plug.vm} cannot have the interface {tap}: it is {whose.vm}'s")


def make_tap(name: str, links: Mapping[str, Link]) -> None:
    """It is down, and stays when this process ends."""
    if not is_tap(links.get(name)):
        iproute.change([f"link delete {name}"] if name in links else [])
        try:
            with open("/dev/net/tun", "rb", buffering=0) as device:
                fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
                fcntl.ioctl(device, TUNSETOWNER, 0)  # without one it is anybody's who may open the device
                fcntl.ioctl(device, TUNSETPERSIST, 1)
        except OSError as error:
            raise Temporary(f"cannot make the interface {name}: {os.strerror(error.errno or 0)}") from error
    for setting, value in iproute.silence(name):
        iproute.set_kernel(setting, value)


def connect(plug: Plug) -> Iterator[str]:
    """All of it may be done already. Whose it is comes first."""
    tap = names.tap(plug.vni, plug.vm)
    yield f'link set {tap} alias "{alias_of(plug)}"'
    yield f"link set {tap} mtu {plug.mtu} master {names.bridge(plug.vni)} up"


def make_reachable(plug: Plug) -> None:
    for neighbour in neighbours_of(plug):
        netlink.set_neighbour(neighbour.dst, neighbour.dev, neighbour.lladdr)
    for route in routes_to(plug):
        netlink.set_route(route.dst, route.dev, int(route.protocol))


def cut_off(addresses: set[Place]) -> None:
    for bridge, address in addresses:
        for protocol in PROTOCOLS:
            netlink.remove_route(address, bridge, int(protocol))
        netlink.remove_neighbour(address, bridge)
