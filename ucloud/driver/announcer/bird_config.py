"""What bird is told, as text: on each host (bird.py), and in the router of a cloud on one machine (`ucloud up`). Pure.

A host announces its kernel's routes to public VMs (`names.ROUTE_PUBLIC`) by BGP (RFC 4271), over IPv6 alone, and takes a
default route if it is told one. Either side notices the other's silence by BFD (RFC 5880), which stands the pauses of a busy
machine; it begins with BGP's session and needs a second or two to be up (RFC 5880, 6.8.3: one packet a second until then), in
which silence is noticed by BGP's hold time alone. A router's id is a number, though it is written like an IPv4 address.
"""

import hashlib
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from ucloud.driver.overlay.names import ROUTE_PUBLIC

BFD_INTERVAL_MS, BFD_MULTIPLIER = 400, 5
BGP_HOLD_S, BGP_KEEPALIVE_S = 9, 3
MAX_LOG_BYTES = 1 << 20
LOGGED = "{ remote, warning, error, auth, fatal, bug }"

SESSION = f"""\
    bfd on;
    hold time {BGP_HOLD_S};
    keepalive time {BGP_KEEPALIVE_S};
    connect delay time 1;
    connect retry time 2;
    error wait time 1, 4;
    strict bind on;
"""


def host(*, address: str, routers: Sequence[str], host_as: int, router_as: int, prefixes: Sequence[str]) -> str:
    """address: this host's on the underlay. prefixes: of public networks; nothing else is announced."""
    sessions = "".join(
        f"""
protocol bgp router{number} {{
    local {address} as {host_as};
    neighbor {router} as {router_as};
{SESSION}\
    ipv6 {{ import where net = ::/0; export where source = RTS_INHERIT; }};
}}
"""
        for number, router in enumerate(routers, 1)
    )
    learned = f"where krt_source = {ROUTE_PUBLIC} && net ~ {single_addresses(prefixes)}" if prefixes else "none"
    return f"""\
# Written by the host daemon; changes will be lost.
log "bird.log" {MAX_LOG_BYTES} "bird.log.1" {LOGGED};
router id {router_id(address)};
protocol device {{ }}
protocol kernel {{
    learn;
    ipv6 {{ import {learned}; export where source = RTS_BGP; }};
}}
{bfd("*")}{sessions}"""


def router(*, address: str, interface: str, hosts: str, host_as: int, router_as: int, prefixes: Sequence[str]) -> str:
    """address, interface: the router's on the underlay. hosts: the prefix in which any address may be a host's."""
    return f"""\
# Written by `ucloud up`; changes will be lost.
log stderr {LOGGED};
router id {router_id(address)};
protocol device {{ }}
protocol kernel {{
    ipv6 {{ import none; export where source = RTS_BGP; }};
}}
{bfd(interface)}
protocol bgp hosts {{
    local {address} as {router_as};
    neighbor range {hosts} as {host_as};
    dynamic name "host";
    passive;
{SESSION}\
    ipv6 {{ import where net ~ {single_addresses(prefixes)}; export none; }};
}}
"""


def bfd(interface: str) -> str:
    return f"""\
protocol bfd {{
    accept ipv6 direct;
    interface "{interface}" {{ interval {BFD_INTERVAL_MS} ms; multiplier {BFD_MULTIPLIER}; }};
}}
"""


def single_addresses(prefixes: Sequence[str]) -> str:
    return f"[ {', '.join(f'{prefix}{{128,128}}' for prefix in prefixes)} ]"


def router_id(address: str) -> str:
    """Unique among those that speak with each other, as their addresses are."""
    digest = hashlib.sha256(IPv6Address(address).packed).digest()
    return str(IPv4Address(digest[:4]))
