"""Addresses that follow from a MAC (RFC 4291, appendix A): those of a VM's port, whoever makes them."""

from ipaddress import IPv6Address, IPv6Network


def interface_id(mac: str) -> int:
    """What a guest makes of its MAC."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    return int.from_bytes(bytes([octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]]))


def address(subnet: str, mac: str) -> str:
    """A port's IPv6 address in a /64: unique there as its MAC is, and the same whether a guest asks for it or makes it."""
    return str(IPv6Address(int(IPv6Network(subnet).network_address) | interface_id(mac)))


def link_local(mac: str) -> str:
    return address("fe80::/64", mac)
