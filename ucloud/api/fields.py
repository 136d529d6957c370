"""The types of which request bodies, URL parameters and answers are made, with their rules in words.

A rule completes the sentence "it must be …": people read it in errors and in the API's description. Where a type has none,
`rule_of` makes one of its limits. `fits` is for what neither a pattern nor a limit can say.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import msgspec
from msgspec import Meta, UnsetType

from ucloud.base.ids import is_name
from ucloud.model.network import Allowed

LABEL = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
# Nor characters that turn text around or cannot be seen.
NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*$"
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))  # RFC 1918
MAX_PORTS = 8  # of a VM: they are part of its record
MAX_KEYS = 16  # of a VM
MAX_KEY_CHARACTERS = 4096  # the longest that ssh takes has 2,800; a guest may ask for all of its 16 as often as it likes
MAX_USER_DATA_BYTES = 64 * 1024
MAX_METADATA = 32
MAX_LABELS = 16
MAX_LABELS_TEXT = 400  # characters of all labels together: they are part of the VM's record


def are_labels(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_LABELS
        and all(isinstance(v, str) and re.fullmatch(LABEL, k) and re.fullmatch(f"({LABEL})?", v) for k, v in value.items())
        and sum(len(k) + len(v) for k, v in value.items()) <= MAX_LABELS_TEXT
    )


def is_spread(text: str) -> bool:
    group, at, label = text.partition("@")
    return is_name(group) and (not at or are_labels({label: ""}))


def is_path(text: str) -> bool:
    return ".." not in text.split("/")


def is_ipv6_subnet(text: str) -> bool:
    try:
        return IPv6Network(text).prefixlen == 64
    except ValueError:
        return False


def is_ipv4_range(text: str) -> bool:
    try:
        range = IPv4Network(text)
    except ValueError:
        return False
    return 8 <= range.prefixlen <= 29 and any(range.subnet_of(private) for private in PRIVATE)


def is_vm_name(text: str) -> bool:
    return is_name(text) and text != "metadata"


def is_short_enough(text: str) -> bool:
    return len(text.encode()) <= MAX_USER_DATA_BYTES


def is_metadata(value: dict[str, str]) -> bool:
    return all(re.fullmatch(METADATA_KEY, k) and not v.endswith("\n") for k, v in value.items())


def are_different(values: list[str]) -> bool:
    return len(set(values)) == len(values)


def ruled(rule: str, fits: Callable[[Any], bool] | None = None, **limits: Any) -> Meta:
    return Meta(extra={"rule": rule, "fits": fits}, **limits)


def several(most: int, example: str) -> Meta:
    return ruled(
        f"at most {most} names or ids, each once",
        are_different,
        max_length=most,
        extra_json_schema={"uniqueItems": True},
        examples=[[example]],
    )


NAME_RULE = "1 to 63 of a-z, 0-9 and -, not starting or ending with -, and not of the form of an id"
METADATA_KEY = r"[a-z0-9][a-z0-9._-]{0,62}"
LABELS_RULE = (
    f"at most {MAX_LABELS} pairs of texts of A-Z, a-z, 0-9, ., _, / and -, which start and end with a letter or"
    f" digit, 63 characters each and {MAX_LABELS_TEXT} in all"
)
LabelKey: TypeAlias = Annotated[str, Meta(pattern=f"^{LABEL}$")]
LabelValue: TypeAlias = Annotated[str, Meta(pattern=f"^({LABEL})?$")]

Name: TypeAlias = Annotated[str, ruled(NAME_RULE, is_name, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", examples=["web"])]
VmName: TypeAlias = Annotated[
    str,
    ruled(
        f"{NAME_RULE}; metadata is a name that every network has",
        is_vm_name,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        extra_json_schema={"not": {"const": "metadata"}},
        examples=["web"],
    ),
]
UnixUser: TypeAlias = Annotated[
    str,
    ruled(
        "the name of a Unix user: 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or _",
        pattern=r"^[a-z_][a-z0-9_-]{0,31}$",
        examples=["debian"],
    ),
]
Reference: TypeAlias = Annotated[str, ruled("a name or an id", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["tiny"])]
Labels: TypeAlias = Annotated[
    dict[LabelKey, LabelValue], ruled(LABELS_RULE, are_labels, max_length=MAX_LABELS, examples=[{"tier": "front"}])
]
LabelFilter: TypeAlias = Annotated[str, ruled("KEY or KEY=VALUE", pattern=f"^{LABEL}(=({LABEL})?)?$")]
Spread: TypeAlias = Annotated[
    str,
    ruled("GROUP or GROUP@LABEL; a group is named like a VM", is_spread, pattern=f"^[a-z0-9-]{{1,63}}(@{LABEL})?$"),
]
HostWish: TypeAlias = Annotated[
    str, ruled("a host, or a label KEY=VALUE", pattern=f"^([a-z0-9][a-z0-9-]{{0,62}}|{LABEL}=({LABEL})?)$")
]
Networks: TypeAlias = Annotated[list[Reference], several(MAX_PORTS, "default")]
KeyLine: TypeAlias = Annotated[
    str,
    ruled(
        f"the line of a .pub file, as ssh-keygen makes it, of at most {MAX_KEY_CHARACTERS:,} characters",
        max_length=MAX_KEY_CHARACTERS,
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOvTdxtK7ij70H+Ov7stVQXcawsuhibudQnSanC8yfx2 me@home"],
    ),
]
Keys: TypeAlias = Annotated[list[Reference], several(MAX_KEYS, "me")]
UserText: TypeAlias = Annotated[
    str,
    ruled(
        f"a text of at most {MAX_USER_DATA_BYTES:,} bytes in UTF-8",
        is_short_enough,
        max_length=MAX_USER_DATA_BYTES,
        examples=["#cloud-config\n"],
    ),
]
Base64: TypeAlias = Annotated[
    str,
    ruled(
        f"at most {MAX_USER_DATA_BYTES:,} bytes in base64 (RFC 4648), in one line",
        pattern=r"^[A-Za-z0-9+/]*={0,2}$",
        max_length=(MAX_USER_DATA_BYTES + 2) // 3 * 4,
        examples=["I2Nsb3VkLWNvbmZpZwo="],
    ),
]
MetadataKey: TypeAlias = Annotated[str, Meta(pattern=f"^{METADATA_KEY}$")]
MetadataValue: TypeAlias = Annotated[  # whole metadata is refused by cloud-init where it has one of the last two (YAML)
    str, Meta(pattern=r"^[^\u0000-\u001f\u007f-\u009f\ufffe\uffff]*$", max_length=1024)
]
Metadata: TypeAlias = Annotated[
    dict[MetadataKey, MetadataValue],
    ruled(
        f"at most {MAX_METADATA} pairs: a key of 1 to 63 of a-z, 0-9, ., _ and -, beginning with a letter or digit; a value of"
        " at most 1,024 characters, without control characters",
        is_metadata,
        max_length=MAX_METADATA,
        examples=[{"role": "database"}],
    ),
]
Allow: TypeAlias = Annotated[
    list[Allowed],
    ruled("ra, dhcp, or both", are_different, max_length=2, extra_json_schema={"uniqueItems": True}, examples=[["ra"]]),
]
Ipv6Subnet: TypeAlias = Annotated[
    str,
    ruled(
        "an IPv6 prefix of 64 bits and nothing behind it, such as fd12:3456:789a:1::/64",
        is_ipv6_subnet,
        pattern="^[0-9A-Fa-f:.]{2,45}/64$",
        examples=["fd12:3456:789a:1::/64"],
    ),
]
Ipv4Range: TypeAlias = Annotated[
    str,
    ruled(
        "a private IPv4 range (RFC 1918) of /8 to /29, such as 10.1.0.0/24",
        is_ipv4_range,
        pattern="^[0-9.]{7,15}/[0-9]{1,2}$",
        examples=["10.1.0.0/24"],
    ),
]
Path: TypeAlias = Annotated[
    str,
    ruled(
        "an absolute path without .. and control characters, of at most 1000 characters",
        is_path,
        pattern=f"^/{NO_CONTROLS[1:]}",
        max_length=1000,
        examples=["/srv/pool"],
    ),
]
Sha256: TypeAlias = Annotated[str, ruled("a SHA-256: 64 of 0-9 and a-f", pattern="^[0-9a-f]{64}$", examples=["0" * 64])]
Cursor: TypeAlias = Annotated[
    str, ruled("the next_cursor of an earlier answer", pattern=NO_CONTROLS, max_length=500), Meta(description="where to go on")
]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1000, description="how many at most")]
Cpus: TypeAlias = Annotated[int, Meta(ge=1, le=1024, examples=[2])]
MemoryMib: TypeAlias = Annotated[int, Meta(ge=16, le=16 * 1024 * 1024)]
DiskMib: TypeAlias = Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)]
Protection: TypeAlias = Annotated[bool, Meta(description="it cannot be deleted while this is true")]
Id: TypeAlias = Annotated[str, Meta(examples=["vm-01kd2g5x8p6q0v3n9r7t4w1y2z"])]
Timestamp: TypeAlias = Annotated[str, Meta(examples=["2026-11-22T14:51:31.042Z"], description="in UTC")]


def plain(type: Any) -> Any:
    """What may stand in a request, of a field that may also be left out (`Name | UnsetType`)."""
    if get_origin(type) is Annotated:
        return Annotated[plain(type.__origin__), *type.__metadata__]
    if get_origin(type) in (Union, UnionType):
        given = [member for member in get_args(type) if member is not UnsetType]
        return given[0] if len(given) == 1 else type
    return type


def metas(type: Any) -> list[Meta]:
    return [meta for meta in getattr(plain(type), "__metadata__", ()) if isinstance(meta, Meta)]


def fits_of(type: Any) -> Callable[[Any], bool]:
    """What the type's own limits don't say. To Python, a pattern's $ is also before a line feed at the end."""
    checks = [meta.extra["fits"] for meta in metas(type) if meta.extra and meta.extra["fits"]]
    items = [meta for item in get_args(getattr(plain(type), "__origin__", None)) for meta in metas(item)]
    has_pattern = any(meta.pattern for meta in (*metas(type), *items))

    def fits(value: Any) -> bool:
        texts = value if isinstance(value, list) else [value]
        if has_pattern and any(isinstance(text, str) and text.endswith("\n") for text in texts):
            return False
        return all(check(value) for check in checks)

    return fits


def rule_of(type: Any) -> str:
    for meta in metas(type):
        if meta.extra:
            return str(meta.extra["rule"])
    wanted = plain(type)
    base = get_args(wanted)[0] if metas(type) else wanted
    if base is bool:
        return "true or false"
    if get_origin(base) is Literal:
        return f"one of {', '.join(map(str, get_args(base)))}"
    number = {int: "a whole number", float: "a number"}.get(base, msgspec.json.schema(base).get("type", "as described"))
    low = next((meta.ge for meta in metas(type) if meta.ge is not None), None)
    high = next((meta.le for meta in metas(type) if meta.le is not None), None)
    return str(number) + (f" from {low} to {high}" if low is not None and high is not None else "")
