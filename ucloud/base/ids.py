"""Identifiers: typed, sortable by time, unguessable: vm-01kd2g5x8p6q0v3n9r7t4w1y2z (a ULID in lower case).

`random_bits` is handed in, so that the simulator can hand in its own.
"""

import re
import secrets
from collections.abc import Callable

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
ID_PATTERN = re.compile(r"^(vm|host|image|network|key|project)-[0-9a-hjkmnp-tv-z]{26}$")
NAME_PATTERN = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")  # a DNS label (RFC 1123), in lower case


def ulid(now_s: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    """26 characters: 48 bits of milliseconds, 80 random bits."""
    number = (int(now_s * 1000) << 80) | random_bits(80)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_id(kind: str, now_s: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    return f"{kind}-{ulid(now_s, random_bits)}"


def is_id(text: str) -> bool:
    return ID_PATTERN.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """1–63 of a–z 0–9 and -, not starting or ending with -, not of an id's form."""
    return NAME_PATTERN.fullmatch(text) is not None and not is_id(text)
