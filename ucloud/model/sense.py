"""Whether a record makes sense. Whoever reads records from the store calls this before anybody acts on one.

What decodes need not be what ucloud wrote: a hand, or a host that was taken over, may have put it there. Its names become
parts of keys, paths and command lines, its numbers are added up. Here stands only what holds for everything that ucloud
writes; the API refuses more, and tells people why.
"""

import contextlib
import functools
import hashlib
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from ucloud.base.clock import parse_timestamp
from ucloud.model.bookkeeping import Idempotency
from ucloud.model.event import Event
from ucloud.model.host import Failover, Fence, Hold, JoinToken
from ucloud.model.image import Image, Pool
from ucloud.model.key import Blob, HostBlob, Key, Project
from ucloud.model.network import ManifestPort, Network, NetworkRef, Port, VmPort
from ucloud.model.record import Record
from ucloud.model.vm import Manifest, Placement, Status, Vm

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAC = re.compile(r"02(:[0-9a-f]{2}){5}")
CUSTOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED = frozenset({"id", "vm", "host", "image", "pool", "project", "name", "network"})
OTHERWISE_NAMED = {(Vm, "host"), (Idempotency, "name"), (Event, "name")}  # a wish, a client's key, a word: never part of a path


def check(key: str, record: Record) -> None:
    """Raises msgspec.ValidationError, saying what is wrong with the record that was found under `key`."""
    if record.key != key:
        raise msgspec.ValidationError(f"by its fields it belongs under {record.key[:80]!r}")
    names, numbers = fields(type(record))
    for name in names:
        value = getattr(record, name)
        if not (value == "" and isinstance(record, Placement)):
            _check_name(name, value)
    for name in numbers:
        if getattr(record, name) < 0:
            raise msgspec.ValidationError(f"{name}: {getattr(record, name)} is less than nothing")
    if isinstance(record, Manifest):
        for disk in record.disks:
            _check_path(disk.pool.path)
        for line in record.keys:
            _check_line("keys", line)
        _check_told(record)
        for told in record.ports:
            _check_port(told)
            _check_network(told.network)
    elif isinstance(record, Vm):
        for port in record.ports:
            _check_name("network", port.network)
            _check_port(port)
        for key in record.keys:
            _check_name("keys", key)
        _check_told(record)
    elif isinstance(record, Port):
        _check_port(record)
    elif isinstance(record, Network):
        _check_network(record)
        _check_time("created", record.created)
    elif isinstance(record, Key):
        _check_line("key", record.line)
    elif isinstance(record, Project):
        if record.default_key:
            _check_name("default_key", record.default_key)
    elif isinstance(record, Blob | HostBlob):
        if hashlib.sha256(record.data).hexdigest() != record.sha256:
            raise msgspec.ValidationError("data: another one than its name says")
    elif isinstance(record, Pool):
        _check_path(record.path)
    elif isinstance(record, Image | Idempotency):
        _check_time("created", record.created)
    elif isinstance(record, Status):
        _check_time("since", record.since)
        for pool in record.pools:
            _check_name("pools", pool)
    elif isinstance(record, Fence | Failover | Hold):
        _check_time("since", record.since)
    elif isinstance(record, JoinToken):
        _check_time("expires", record.expires)
        if not SHA256.fullmatch(record.sha256):
            raise msgspec.ValidationError(f"sha256: {record.sha256[:80]!r} is no SHA-256")
    elif isinstance(record, Event):
        _check_time("time", record.time)


@functools.cache
def fields(kind: type[Record]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that hold names, and those that hold numbers."""
    every = msgspec.structs.fields(kind)
    names = [field.name for field in every if field.name in NAMED and (kind, field.name) not in OTHERWISE_NAMED]
    return tuple(names), tuple(field.name for field in every if field.type is int)


def _check_name(field: str, text: str) -> None:
    if not NAME.fullmatch(text):
        raise msgspec.ValidationError(f"{field}: {text[:80]!r} cannot be a name")


def _check_line(field: str, text: str) -> None:
    """It becomes a line of a file."""
    if not text or len(text.splitlines()) != 1:
        raise msgspec.ValidationError(f"{field}: must be one line")


def _check_told(record: Vm | Manifest) -> None:
    """What a guest is told."""
    if record.user_data and not SHA256.fullmatch(record.user_data):
        raise msgspec.ValidationError(f"user_data: {record.user_data[:80]!r} is no SHA-256")
    for name in record.metadata:
        if not CUSTOM.fullmatch(name):
            raise msgspec.ValidationError(f"metadata: {name[:80]!r} cannot be a name")


def _check_port(port: VmPort | ManifestPort | Port) -> None:
    if not MAC.fullmatch(port.mac):
        raise msgspec.ValidationError(f"mac: {port.mac[:80]!r} is not one of ours")
    _check_as(IPv6Address, "ipv6", port.ipv6)
    if port.ipv4:
        _check_as(IPv4Address, "ipv4", port.ipv4)


def _check_network(network: Network | NetworkRef) -> None:
    _check_name("network", network.id)
    _check_name("network", network.name)
    if not 0 < network.vni < 1 << 24:
        raise msgspec.ValidationError(f"vni: {network.vni} is none")
    if not 1280 <= network.mtu < 1 << 16:
        raise msgspec.ValidationError(f"mtu: {network.mtu} is not from 1280 to 65535")
    _check_as(IPv6Network, "ipv6", network.ipv6)
    if not network.ipv6.endswith("/64"):
        raise msgspec.ValidationError(f"ipv6: {network.ipv6} is no /64")
    if network.ipv4:
        _check_as(IPv4Network, "ipv4", network.ipv4)
        if IPv4Network(network.ipv4).prefixlen > 29:
            raise msgspec.ValidationError(f"ipv4: {network.ipv4} has no room for a router and a VM")


def _check_as(kind: type[IPv4Address | IPv6Address | IPv4Network | IPv6Network], field: str, text: str) -> None:
    """As ucloud writes it, so that texts can be compared, and without a scope, which may hold anything (fe80::1%eth0)."""
    with contextlib.suppress(ValueError):
        if str(kind(text)) == text and "%" not in text:
            return
    raise msgspec.ValidationError(f"{field}: {text[:80]!r} is not as ucloud writes it")


def _check_path(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise msgspec.ValidationError(f"path: {path[:80]!r} is not absolute")


def _check_time(name: str, text: str) -> None:
    """In UTC, as times that say where they are can be compared with no others."""
    try:
        parse_timestamp(text)
        is_utc = text.endswith("Z")
    except (ValueError, OverflowError):
        is_utc = False
    if not is_utc:
        raise msgspec.ValidationError(f"{name}: {text[:80]!r} is no time in UTC")
