"""Which numbers and address ranges a new network gets, or may have where its owner asks for some. Used by `ucloud.api.network`.

What is chosen is claimed by the commit, so that nothing here has to be certain. Tenants choose prefixes of private networks
themselves: none may lie where the hosts, their routers or resolvers are, as each host answers for a network's first address.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from ucloud.api.services import services
from ucloud.base.config import Network as Settings
from ucloud.base.errors import Invalid, NoCapacity
from ucloud.ipam import allocate
from ucloud.model import keys

LOCAL = IPv6Network("fd00::/8")  # for anybody to choose from (RFC 4193)
METADATA = "fd00:ec2::/64"  # where every network's guests reach the metadata service, without a router
VNIS, SUBNETS, RANGES = (keys.unique(kind, "") for kind in ("vni", "subnet", "ipv4"))


class Claimed(NamedTuple):
    """What networks have. revision: at which the ranges were listed."""

    vnis: frozenset[int]
    subnets: frozenset[str]
    ranges: tuple[IPv4Network, ...]
    revision: int


def claimed() -> Claimed:
    """Read from the store."""
    vnis, subnets, ranges = map(services().store.list, (VNIS, SUBNETS, RANGES))
    return Claimed(
        frozenset(int(item.key.removeprefix(VNIS)) for item in vnis.items),
        frozenset(item.key.removeprefix(SUBNETS) + "/64" for item in subnets.items),
        tuple(IPv4Network(item.key.removeprefix(RANGES)) for item in ranges.items),
        ranges.revision,
    )


def vni(id: str, settings: Settings, taken: Claimed) -> int:
    """From a place on that follows from the network's id: two that are made at once rarely meet. Raises NoCapacity."""
    first, last = map(int, settings.vnis.split("-"))
    start = first + hash_of(id) % (last - first + 1)
    chosen = allocate.vni(start, last, taken.vnis) or allocate.vni(first, start - 1, taken.vnis)
    if chosen is None:
        raise NoCapacity(f"all network identifiers ([network] vnis = {settings.vnis}) are taken; delete a network, or add some")
    return chosen


def hash_of(id: str) -> int:
    """Its random part, as a number."""
    return int.from_bytes(id[-8:].encode())


@dataclass(frozen=True)
class Unfit:
    """Prefixes of 64 bits that are taken, or lie where no network may be."""

    taken: frozenset[str]
    reserved: tuple[IPv6Network, ...]

    def __contains__(self, subnet: object) -> bool:
        return subnet in self.taken or overlaps(str(subnet), self.reserved)


def public(settings: Settings, taken: Claimed) -> str:
    """Raises NoCapacity."""
    if not settings.public:
        raise NoCapacity("this cloud has no prefix for public networks; its operator sets one: [network] public")
    subnet = allocate.subnet(settings.public, Unfit(taken.subnets, reserved(settings)))
    if subnet is None:
        prefixes = ", ".join(settings.public)
        raise NoCapacity(f"no /64 of {prefixes} is left for another public network; its operator adds to [network] public")
    return subnet


def private(id: str, settings: Settings, taken: Claimed) -> str:
    unfit, attempt = Unfit(taken.subnets, (*reserved(settings), *parsed(settings.public))), 0
    while (subnet := allocate.private_subnet(id, attempt)) in unfit:
        attempt += 1
    return subnet


def ipv6(wanted: str, is_public: bool, settings: Settings, taken: Claimed) -> str:
    """As ucloud writes it. Raises Invalid."""
    subnet = IPv6Network(wanted)
    if is_public and not any(subnet.subnet_of(prefix) for prefix in parsed(settings.public)):
        raise refused(
            "ipv6", f"a public network's must lie in {', '.join(settings.public) or 'a prefix that nobody has set yet'}"
        )
    if not is_public and not subnet.subnet_of(LOCAL):
        raise refused("ipv6", f"a private network's must lie in {LOCAL}")
    if not is_public and overlaps(wanted, parsed(settings.public)):
        raise refused("ipv6", f"{subnet} is for public networks")
    if overlaps(wanted, reserved(settings)):
        raise refused("ipv6", f"{subnet} is where the cloud itself is")
    if str(subnet) in taken.subnets:
        raise refused("ipv6", f"another network has {subnet}")
    return str(subnet)


def ipv4(wanted: str, is_public: bool, taken: Claimed) -> str:
    """Raises Invalid."""
    if is_public:
        raise refused("ipv4", "only a private network has an IPv4 range")
    mine = IPv4Network(wanted)
    if other := next((other for other in taken.ranges if other.overlaps(mine)), None):
        raise refused("ipv4", f"{mine} overlaps {other}, which another network has")
    return str(mine)


def refused(field: str, why: str) -> Invalid:
    return Invalid(f"{field}: {why}", {field: why})


def reserved(settings: Settings) -> tuple[IPv6Network, ...]:
    return parsed((METADATA, *settings.underlay, *settings.resolvers, *settings.routers))


def parsed(prefixes: Iterable[str]) -> tuple[IPv6Network, ...]:
    """An address is a prefix of its own."""
    return tuple(map(IPv6Network, prefixes))


def overlaps(subnet: str, prefixes: Iterable[IPv6Network]) -> bool:
    return any(IPv6Network(subnet).overlaps(prefix) for prefix in prefixes)
