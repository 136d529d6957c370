"""Which MAC, address, prefix and VNI something new gets. Pure; called by the API, whose commit claims what is chosen here."""

import hashlib
from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network


def mac(network: str, vm: str, attempt: int = 0) -> str:
    """Of a port: locally administered, unicast. Follows from the ids, so that nothing has to be counted; should it be taken,
    the next attempt gives another. 02: nothing else in a network begins so (the gateway has one of VRRP's)."""
    digest = hashlib.sha256(f"{network}/{vm}/{attempt}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def ipv4(subnet: str, mac: str, taken: Container[str]) -> str | None:
    """A port's IPv4 address, from a place that follows from its MAC on: two that are made at once rarely meet. Never the
    network's own, the router's (the first) or that for broadcasts. None when all are taken."""
    network = IPv4Network(subnet)
    first, count = int(network.network_address) + 2, network.num_addresses - 3
    start = int.from_bytes(hashlib.sha256(mac.encode()).digest()[:8]) % max(1, count)
    places = ((start + step) % count for step in range(count))
    return next((text for place in places if (text := str(IPv4Address(first + place))) not in taken), None)


def subnet(pool: Iterable[str], taken: Container[str]) -> str | None:
    """The first /64 of the operator's prefixes that is not taken; None when there is none."""
    candidates = (str(part) for prefix in pool for part in IPv6Network(prefix).subnets(new_prefix=64))
    return next((candidate for candidate in candidates if candidate not in taken), None)


def private_subnet(network: str, attempt: int = 0) -> str:
    """A unique local /64 whose global and subnet id follow from the network's id (RFC 4193: fd00::/8 and 40 random bits)."""
    digest = hashlib.sha256(f"{network}/{attempt}".encode()).digest()
    return str(IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64)))


def vni(first: int, last: int, taken: Container[int]) -> int | None:
    """The lowest that is not taken; None when all are."""
    return next((number for number in range(first, last + 1) if number not in taken), None)
