"""Ports and networks as elements of the sets of rules.nft, and back. Pure; used by nft.py, which sends and reads them.

One element of a thing, its head, carries the thing in words as its comment: all that a thing is can be read from the kernel.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, ip_interface
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast, get_args

from ucloud.driver.overlay import names
from ucloud.model.network import Allowed
from ucloud.model.wiring import PortFilter, Segment, Taken, Thing

T = TypeVar("T", bound=Thing)

LINK_LOCAL = int(IPv6Address("fe80::"))
PUBLIC, PRIVATE = "inet ucloud public", "inet ucloud private"  # bridges
GATEWAYS = {4: "inet ucloud gateways4", 6: "inet ucloud gateways6"}  # addresses; the comment says of which network
MAY = {"ra": "bridge ucloud may_route", "dhcp": "bridge ucloud may_serve"}


class Element(NamedTuple):
    """set: as nft names it. parts: interfaces and IPv4 addresses as text, all else as numbers. comment: of a head. mark: what
    a map leads to."""

    set: str
    parts: tuple[str | int, ...]
    comment: str = ""
    mark: int | None = None

    def __str__(self) -> str:
        comment = f' comment "{self.comment}"' if self.comment else ""
        return self.name + comment + (f" : {self.mark}" if self.mark is not None else "")

    @property
    def name(self) -> str:
        """What the kernel tells elements of a set apart by."""
        return " . ".join(hex(part) if isinstance(part, int) else quoted(part) for part in self.parts)


Group: TypeAlias = frozenset[Element]  # of one thing


class Kind(Protocol[T]):
    """How things of a type stand in sets that hold nothing else."""

    sets: frozenset[str]

    def elements(self, thing: T) -> Iterator[Element]: ...

    def group(self, key: str) -> str:
        """A name that is the same for a thing's key and all its elements."""

    def key(self, element: Element) -> str:
        """A key in its group."""

    def thing(self, head: Element) -> T:
        """ValueError: it is no head, or not one of ours."""


class Filters:
    sets = frozenset({f"bridge ucloud {name}" for name in ("ports", "macs", "addresses6", "addresses4")} | {*MAY.values()})

    def elements(self, thing: PortFilter) -> Iterator[Element]:
        tap, mac = names.tap(thing.vni, thing.vm), int(thing.mac.replace(":", ""), 16)
        yield Element("bridge ucloud ports", (tap,), " ".join((thing.vm, thing.mac, *thing.addresses, *thing.allow)), thing.vni)
        yield Element("bridge ucloud macs", (tap, mac))
        yield Element("bridge ucloud addresses6", (tap, LINK_LOCAL | eui64(mac)))
        for address in thing.addresses:
            if ":" in address:
                yield Element("bridge ucloud addresses6", (tap, int(IPv6Address(address))))
            else:
                yield Element("bridge ucloud addresses4", (tap, address))
        for what in thing.allow:
            yield Element(MAY[what], (tap,))

    def group(self, key: str) -> str:
        vni, _, vm = key.partition("/")
        return f"{vni}/{vm[-7:]}"

    def key(self, element: Element) -> str:
        """With as much of the VM's id as is in the interface's name."""
        tap = str(element.parts[0])
        return f"{vni(tap, names.TAP)}/{tap[len(names.TAP) + 6 :]}"

    def thing(self, head: Element) -> PortFilter:
        vm, mac, *rest = head.comment.split()
        allow = tuple(word for word in rest if word in get_args(Allowed))
        addresses = tuple(word for word in rest if word not in allow)
        return PortFilter(vm=vm, vni=head.mark or 0, mac=mac, addresses=addresses, allow=cast(tuple[Allowed, ...], allow))


class Zones:
    sets = frozenset(
        {f"bridge ucloud {name}" for name in ("gateways6", "gateways4", "private")} | {PUBLIC, PRIVATE, *GATEWAYS.values()}
    )

    def elements(self, thing: Segment) -> Iterator[Element]:
        vxlan, words = names.vxlan(thing.vni), " ".join((thing.group, str(thing.mtu), *thing.gateways))
        if thing.public:
            yield Element(PUBLIC, (names.bridge(thing.vni),), words)
        else:
            yield Element(PRIVATE, (names.bridge(thing.vni),), words)
            yield Element("bridge ucloud private", (vxlan,))
        for gateway in thing.gateways:
            address = ip_interface(gateway).ip
            part = int(address) if address.version == 6 else str(address)
            yield Element(f"bridge ucloud gateways{address.version}", (vxlan, part))
            yield Element(GATEWAYS[address.version], (part,), thing.key)

    def group(self, key: str) -> str:
        return key

    def key(self, element: Element) -> str:
        if element.set in GATEWAYS.values():
            return element.comment
        interface = str(element.parts[0])
        return f"{vni(interface, names.BRIDGE if interface.startswith(names.BRIDGE) else names.VXLAN)}"

    def thing(self, head: Element) -> Segment:
        group, mtu, *gateways = head.comment.split()
        public = head.set == PUBLIC
        return Segment(vni=int(self.key(head)), group=group, mtu=int(mtu), gateways=tuple(gateways), public=public)


class Claims:
    """Of link-local addresses. Nothing but heads, whose parts say it all."""

    sets = frozenset({"bridge ucloud taken"})

    def elements(self, thing: Taken) -> Iterator[Element]:
        yield Element("bridge ucloud taken", (thing.vni, int(IPv6Address(thing.address))))

    def group(self, key: str) -> str:
        return key

    def key(self, element: Element) -> str:
        return self.thing(element).key

    def thing(self, head: Element) -> Taken:
        vni, address = head.parts
        return Taken(vni=int(vni), address=str(IPv6Address(address)))


def grouped(kind: Kind[T], elements: Iterable[Element]) -> dict[str, Group]:
    """Those that are of this kind."""
    groups: defaultdict[str, set[Element]] = defaultdict(set)
    for element in elements:
        if element.set in kind.sets:
            groups[kind.group(kind.key(element))].add(element)
    return {name: frozenset(group) for name, group in groups.items()}


def understood(kind: Kind[T], group: Group) -> tuple[str, T | None]:
    """The key of the thing that these elements are of, and the thing if they are all that it is made of, and nothing else."""
    for head in group:
        try:
            thing = kind.thing(head)
            elements = frozenset(kind.elements(thing))
        except (ValueError, LookupError):
            continue
        if head in elements:
            return thing.key, thing if elements == group else None
    return min(map(kind.key, group)), None


def eui64(mac: int) -> int:
    """The interface identifier that guests make of it (RFC 4291, appendix A)."""
    return (mac >> 24 << 40 | 0xFFFE << 24 | mac & 0xFFFFFF) ^ 1 << 57


def vni(interface: str, prefix: str) -> int:
    """0: it is not one of ours."""
    try:
        return int(interface.removeprefix(prefix)[:6], 16)
    except ValueError:
        return 0


def quoted(part: str) -> str:
    return part if part[0].isdigit() else f'"{part}"'


def listed(objects: Iterable[Mapping[str, Any]]) -> Iterator[Element]:
    """The elements in what `nft --json list table` prints."""
    for described in objects:
        for kind, content in described.items():
            if kind in ("set", "map"):
                name = f"{content['family']} {content['table']} {content['name']}"
                for element in content.get("elem", ()):
                    yield read(name, element)


def read(name: str, element: Any) -> Element:
    """`KEY` or, in a map, `[KEY, DATA]`. A key is a value, several of them, or one of these with what else there is to it."""
    key, mark = element if isinstance(element, list) else (element, None)
    more = key["elem"] if isinstance(key, dict) and "elem" in key else {"val": key}
    value = more["val"]
    parts = value["concat"] if isinstance(value, dict) else [value]
    numbers = (int(part, 16) if isinstance(part, str) and part.startswith("0x") else part for part in parts)
    return Element(name, tuple(numbers), more.get("comment", ""), mark)
