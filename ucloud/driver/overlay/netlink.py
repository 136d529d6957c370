"""Routes and neighbours, set and taken away by messages to the kernel (rtnetlink(7)). Called by plugs.py.

Not by the command `ip`: before it touches a neighbour it reads all interfaces, so that a host's thousandth plug would cost four
times as much as its tenth; and of what it failed in it tells only in words.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from ipaddress import ip_interface

from ucloud.base.errors import Temporary

NEWROUTE, DELROUTE, NEWNEIGH, DELNEIGH = 24, 25, 28, 29
REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
NUD_PERMANENT = 0x80
NDA_DST, NDA_LLADDR = 1, 2
MAIN_TABLE, UNICAST, SCOPE_UNIVERSE, SCOPE_LINK = 254, 1, 0, 253
RTA_DST, RTA_OIF = 1, 4
ANSWER_S = 10.0


def set_route(address: str, interface: str, protocol: int) -> None:
    """To this address alone (or this prefix), in the main table."""
    number = index(interface)
    code = ask(NEWROUTE, REPLACE | CREATE, *route(address, number, protocol))
    refuse(code, f"set a route to {address} over {interface}")


def remove_route(address: str, interface: str, protocol: int) -> None:
    """If it is there."""
    if number := index(interface):
        code = ask(DELROUTE, 0, *route(address, number, protocol))
        refuse(code if code != errno.ESRCH else 0, f"remove the route to {address} over {interface}")


def set_neighbour(address: str, interface: str, mac: str) -> None:
    """For good: the kernel does not ask for it, nor believe other answers."""
    body, attributes = neighbour(address, index(interface))
    code = ask(NEWNEIGH, REPLACE | CREATE, body, {**attributes, NDA_LLADDR: bytes.fromhex(mac.replace(":", ""))})
    refuse(code, f"set the neighbour {address} on {interface}")


def remove_neighbour(address: str, interface: str) -> None:
    """If it is there."""
    if number := index(interface):
        code = ask(DELNEIGH, 0, *neighbour(address, number))
        refuse(code if code != errno.ENOENT else 0, f"remove the neighbour {address} on {interface}")


def route(address: str, interface: int, protocol: int) -> tuple[bytes, Mapping[int, bytes]]:
    family, packed, length = prefix(address)
    scope = SCOPE_LINK if family == socket.AF_INET else SCOPE_UNIVERSE
    body = struct.pack("=BBBBBBBBI", family, length, 0, 0, MAIN_TABLE, protocol, scope, UNICAST, 0)
    return body, {RTA_DST: packed, RTA_OIF: struct.pack("=I", interface)}


def neighbour(address: str, interface: int) -> tuple[bytes, Mapping[int, bytes]]:
    family, packed, _ = prefix(address)
    return struct.pack("=BxxxiHBB", family, interface, NUD_PERMANENT, 0, 0), {NDA_DST: packed}


def prefix(text: str) -> tuple[int, bytes, int]:
    address = ip_interface(text)
    return socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed, address.network.prefixlen


def index(interface: str) -> int:
    """0 where there is none, which the kernel then refuses."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def ask(kind: int, flags: int, body: bytes, attributes: Mapping[int, bytes]) -> int:
    """The kernel's answer: 0, or an error number."""
    parts = (
        struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4) for number, value in attributes.items()
    )
    payload = body + b"".join(parts)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(ANSWER_S)
            kernel.send(struct.pack("=IHHII", 16 + len(payload), kind, flags | REQUEST | ACK, 1, 0) + payload)
            answer = kernel.recv(65536)
    except OSError as error:
        raise Temporary(f"the kernel's networks: {error.strerror or error}") from error
    (code,) = struct.unpack_from("=i", answer, 16)  # after the header: NLMSG_ERROR, which says 0 if all is well
    return -int(code)


def refuse(code: int, what: str) -> None:
    if code:
        raise Temporary(f"cannot {what}: {os.strerror(code)}")
