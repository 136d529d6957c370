"""Settings: the one place where they are named, explained, given a default, and refused when they make no sense.

They come from a TOML file (`/etc/ucloud/ucloud.toml`, or the one given with `--config`), one table for each section below;
the environment variable UCLOUD_SECTION_NAME goes before the file: UCLOUD_LOG_LEVEL=debug. Every daemon calls `load` once, at
its start, and hands out what it read; nothing else reads settings.
"""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ucloud.base.errors import Invalid
from ucloud.base.ids import is_name

DEFAULT_PATH = "/etc/ucloud/ucloud.toml"


class Etcd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoints: Annotated[tuple[str, ...], Meta(min_length=1, description="URLs of all members")] = ("http://[::1]:2379",)
    election_ms: Annotated[int, Meta(ge=100, le=10000, description="--election-timeout of its members")] = 300


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(description="this host's id, as given by the API when it joined")] = ""
    name: Annotated[str, Meta(description="its label, for people")] = ""
    state_dir: Annotated[str, Meta(description="what must survive a reboot")] = "/var/lib/ucloud"
    run_dir: Annotated[str, Meta(description="sockets and other things that need not")] = "/run/ucloud"
    address: Annotated[str, Meta(description="its IPv6 address on the underlay")] = "::1"
    cpus: Annotated[int, Meta(ge=0, le=65536, description="for guests; 0: all of the machine's")] = 0
    memory_mib: Annotated[int, Meta(ge=0, le=1 << 30, description="for guests; 0: all of the machine's, less a reserve")] = 0
    accel: Annotated[Literal["auto", "kvm", "tcg"], Meta(description="auto: kvm where a guest really boots with it")] = "auto"
    hypervisor: Annotated[Literal["qemu", "fake"], Meta(description="fake: pretends, for tests")] = "qemu"
    power_down_s: Annotated[float, Meta(ge=0, le=3600, description="how long a guest may take to shut down")] = 90.0
    ttl_s: Annotated[
        float, Meta(ge=2, le=60, description="silence after which this host is declared dead; the same on all hosts")
    ] = 2.0


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    socket: Annotated[str, Meta(description="unix socket to listen on, for root only; empty: none")] = "/run/ucloud/api.sock"
    listen: Annotated[str, Meta(description="[ADDRESS]:PORT to listen on too; empty: none")] = ""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ttl_s: Annotated[
        float, Meta(ge=1, le=60, description="silence after which another takes over; at least six calls of etcd")
    ] = 2.0
    fence_command: Annotated[
        str, Meta(description="program that cuts a dead host off a shared pool: PROGRAM POOL NAME ADDRESS ID; empty: none")
    ] = ""
    cpu_overcommit: Annotated[float, Meta(gt=0, le=1000, description="virtual cores on one real core")] = 16.0


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same on all hosts and API processes of a cloud."""

    driver: Annotated[Literal["linux", "fake"], Meta(description="fake: pretends, for tests")] = "linux"
    public: Annotated[
        tuple[str, ...], Meta(description="IPv6 prefixes, routed to the hosts: each public network gets a /64 of them")
    ] = ()
    slaac: Annotated[bool, Meta(description="networks let guests without DHCPv6 make their address, unless said otherwise")] = (
        False
    )
    vnis: Annotated[str, Meta(description="VXLAN network identifiers for networks, FIRST-LAST")] = "1-16777215"
    group: Annotated[str, Meta(description="IPv6 multicast prefix; its low 24 bits become a network's VNI")] = "ff05::"
    underlay: Annotated[
        tuple[str, ...], Meta(description="prefixes of the hosts' own network; empty: the /64 of [host] address")
    ] = ()
    underlay_mtu: Annotated[int, Meta(ge=1350, le=65535, description="of the hosts' own network; guests get 70 bytes less")] = (
        1500
    )
    domain: Annotated[str, Meta(description="of all names; a VM's is NAME.NETWORK.DOMAIN")] = "ucloud.internal"
    resolvers: Annotated[tuple[str, ...], Meta(description="DNS servers to ask for other names; empty: there are none")] = ()
    routers: Annotated[tuple[str, ...], Meta(description="BGP routers to tell where public VMs are; empty: none")] = ()
    router_as: Annotated[int, Meta(ge=1, le=4294967295, description="autonomous system of the routers")] = 65000
    host_as: Annotated[int, Meta(ge=1, le=4294967295, description="autonomous system of the hosts")] = 65001

    @property
    def mtu(self) -> int:
        """Of guests: VXLAN over IPv6 takes 70 bytes (RFC 7348)."""
        return self.underlay_mtu - 70


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Annotated[Literal["text", "json"], Meta(description="for people, or one JSON object a line")] = "text"
    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="the least that is worth a line")] = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    etcd: Etcd = Etcd()
    host: Host = Host()
    api: Api = Api()
    control: Control = Control()
    network: Network = Network()
    log: Log = Log()


DEFAULTS = Config()
SECTIONS: dict[str, dict[str, Any]] = {
    section: get_type_hints(kind, include_extras=True) for section, kind in get_type_hints(Config).items()
}


def is_endpoint(text: str) -> bool:
    """http or https, a host, a port, nothing else."""
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname and url.port) and url.path in ("", "/")
    except ValueError:
        return False


def is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def is_listen_address(text: str) -> bool:
    match = re.fullmatch(r"\[([^]]+)\]:([0-9]{1,5})", text)
    return match is not None and is_ipv6(match[1]) and 0 < int(match[2]) < 65536


def is_prefix(text: str, longest: int = 128) -> bool:
    """An IPv6 prefix with nothing behind it."""
    try:
        return ipaddress.IPv6Network(text).prefixlen <= longest
    except ValueError:
        return False


def are_vnis(text: str) -> bool:
    match = re.fullmatch(r"([0-9]{1,8})-([0-9]{1,8})", text)
    return match is not None and 0 < int(match[1]) <= int(match[2]) < 1 << 24


def is_group_prefix(text: str) -> bool:
    return is_ipv6(text) and (group := ipaddress.IPv6Address(text)).is_multicast and int(group) % (1 << 24) == 0


CHECKS: dict[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("etcd", "endpoints"): (lambda urls: all(map(is_endpoint, urls)), "URLs such as http://[fd00::1]:2379"),
    ("host", "name"): (lambda name: name == "" or is_name(name), "a DNS label in lower case"),
    ("host", "state_dir"): (os.path.isabs, "an absolute path"),
    ("host", "run_dir"): (os.path.isabs, "an absolute path"),
    ("host", "address"): (is_ipv6, "an IPv6 address"),
    ("control", "fence_command"): (lambda path: path == "" or os.path.isabs(path), "an absolute path"),
    ("api", "socket"): (
        lambda path: path == "" or (path[0] == "/" and len(path.encode()) < 108),
        "a path of at most 107 bytes",
    ),
    ("network", "public"): (lambda prefixes: all(is_prefix(text, 64) for text in prefixes), "IPv6 prefixes of 64 bits at most"),
    ("network", "underlay"): (lambda prefixes: all(map(is_prefix, prefixes)), "IPv6 prefixes such as fd00::/64"),
    ("network", "vnis"): (are_vnis, "FIRST-LAST, from 1 to 16777215"),
    ("network", "group"): (is_group_prefix, "an IPv6 multicast address whose last 24 bits are zero, such as ff05::"),
    ("network", "domain"): (lambda text: all(map(is_name, text.split("."))), "a domain in lower case"),
    ("network", "resolvers"): (lambda addresses: all(map(is_ipv6, addresses)), "IPv6 addresses"),
    ("network", "routers"): (lambda addresses: all(map(is_ipv6, addresses)), "IPv6 addresses"),
    ("api", "listen"): (lambda text: text == "" or is_listen_address(text), "[ADDRESS]:PORT with an IPv6 address"),
}


class Given(NamedTuple):
    """A setting as somebody wrote it; `where`: file and line, or the variable."""

    section: str
    name: str
    value: Any
    where: str
    is_text: bool


def load(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """All settings. Without `path` the default file, which need not exist. Raises Invalid, naming the line at fault."""
    given = [*from_file(path), *from_environment(environ)]
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for setting in given:
        sections[setting.section][setting.name] = checked(setting)
    return msgspec.convert(sections, Config)


def from_file(path: str | None) -> Iterator[Given]:
    file = Path(path or DEFAULT_PATH)
    try:
        text = file.read_text("utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        if path is None:
            return
        raise Invalid(f"{file}: no such file") from error
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML: tomllib names the line
        raise Invalid(f"{file}: {error}") from error
    for section, table in tables.items():
        where = f"{file}:{line_of(text, section)}"
        if section not in SECTIONS:
            raise Invalid(f"{where}: [{section}]: no such section; there are {', '.join(SECTIONS)}")
        if not isinstance(table, dict):
            raise Invalid(f"{where}: {section} is a section, not a setting")
        for name, value in table.items():
            yield Given(section, name, value, f"{file}:{line_of(text, section, name)}", is_text=False)


def from_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    """UCLOUD_API alone, and what else belongs to no section, is the client's."""
    for variable, text in sorted(environ.items()):
        prefix, _, rest = variable.partition("_")
        section, _, name = rest.lower().partition("_")
        if prefix == "UCLOUD" and section in SECTIONS and name:
            yield Given(section, name, text, f"environment variable {variable}", is_text=True)


def checked(setting: Given) -> Any:
    """The value in the type of its setting."""
    section, name, value, where, is_text = setting
    label = f"{where}: [{section}] {name}"
    if name not in SECTIONS[section]:
        raise Invalid(f"{label}: no such setting; there are {', '.join(SECTIONS[section])}")
    if is_text and isinstance(getattr(getattr(DEFAULTS, section), name), tuple):
        value = [part.strip() for part in value.split(",")]
    try:
        value = msgspec.convert(value, SECTIONS[section][name], strict=not is_text)
    except msgspec.ValidationError as error:
        raise Invalid(f"{label}: {error}") from error
    good, wanted = CHECKS.get((section, name), (lambda value: True, ""))
    if not good(value):
        raise Invalid(f"{label}: expected {wanted}, got {value!r}")
    return value


def line_of(text: str, section: str, name: str = "") -> int:
    """Where a section, or a setting in it, stands in a TOML text; tomllib does not tell. 1 where it can't be found."""
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]|\s*{re.escape(section)}\s*[.=]")
    setting = re.compile(rf"""(?:.*[.{{,])?\s*["']?{re.escape(name)}["']?\s*=""")
    line, inside = 1, False
    for number, content in enumerate(text.splitlines(), 1):
        starts = header.match(content) is not None
        inside = starts or (inside and not content.lstrip().startswith("["))
        if starts:
            line = number
        if inside and name and setting.match(content):
            return number
        if starts and not name:
            return number
    return line


def to_toml(config: Config) -> str:
    """What `load` reads back as this: only what differs from the defaults."""
    lines = []
    for section in SECTIONS:
        values, defaults = getattr(config, section), getattr(DEFAULTS, section)
        changed = {
            name: getattr(values, name) for name in SECTIONS[section] if getattr(values, name) != getattr(defaults, name)
        }
        if changed:  # JSON's text, numbers and lists are TOML's too
            lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in changed.items()), ""]
    return "\n".join(lines)
