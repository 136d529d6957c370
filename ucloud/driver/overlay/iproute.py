"""What segments.py and plugs.py see and change of this network namespace: interfaces by the command `ip` (many at once, in a
fifth of the time that a netlink library in Python takes), their settings by /proc/sys. Routes and neighbours are only seen
here; netlink.py sets them.
"""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line

SYSCTL = "/proc/sys/net/"  # of the namespace of whoever reads it
LONGEST_S = 60.0
LOOKS = 5
JSON = "-json", "-details"
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
T = TypeVar("T")


class Address(msgspec.Struct, frozen=True, order=True):
    local: str = ""
    prefixlen: int = 0
    scope: str = "global"
    noprefixroute: bool = False  # the kernel made no route to the others in its prefix
    deprecated: bool = False  # the host does not choose it to speak from


class Info(msgspec.Struct, frozen=True):
    info_kind: str = ""
    info_data: dict[str, Any] = {}


class Link(msgspec.Struct, frozen=True):
    """An interface, as `ip -json -details address show` describes it."""

    ifname: str = ""  # empty: there is none, and it has nothing
    mtu: int = 0
    address: str = ""
    master: str = ""
    ifalias: str = ""
    flags: frozenset[str] = frozenset()
    linkinfo: Info = Info()
    addr_info: tuple[Address, ...] = ()

    @property
    def up(self) -> bool:
        return "UP" in self.flags

    @property
    def kind(self) -> str:
        return self.linkinfo.info_kind


class Route(msgspec.Struct, frozen=True):
    dst: str
    dev: str = ""
    protocol: str = ""


class Neighbour(msgspec.Struct, frozen=True):
    dst: str
    dev: str
    lladdr: str = ""


def links(names: Sequence[str] | None = None) -> dict[str, Link]:
    """By name, and of those names only what is there. None: all there are. Costs as much as there are names."""
    if names is None:
        return {link.ifname: link for link in look("address show", Link)}
    printed = run(["ip", *JSON, "-force", "-batch", "-"], [f"address show dev {name}" for name in names]).stdout
    return {link.ifname: link for link in parsed(printed, Link) if link.ifname}


def routes() -> set[Route]:
    """Those of the main table."""
    return {route for family in ("-4", "-6") for route in look("route show table main", Route, family)}


def neighbours() -> set[Neighbour]:
    """The permanent ones."""
    return set(look("neighbour show nud permanent", Neighbour))


def look(command: str, kind: type[T], *options: str) -> list[T]:
    """All of them: what is not listed is not there. Raises Temporary where that is not sure."""
    for _ in range(LOOKS):
        done = run(["ip", *JSON, *options, "-batch", "-"], [command])
        if not done.stderr:  # it warns of changes while it was reading
            return parsed(done.stdout, kind)
    raise Temporary(f"ip {command}: {one_line(done.stderr)}")


def parsed(printed: str, kind: type[T]) -> list[T]:
    """A line for each command."""
    return [item for line in printed.splitlines() if line for item in msgspec.json.decode(line, type=list[kind])]  # type: ignore[valid-type]


def change(commands: Sequence[str]) -> None:
    """One after the other; the first that fails is the last, and said in Temporary."""
    done = run(["ip", "-batch", "-"], commands)
    if done.returncode:
        words, _, number = done.stderr.rpartition("\nCommand failed -:")  # it does not say so of what it does not understand
        failed = f" {commands[int(number) - 1]}" if words else ""
        raise Temporary(f"ip{failed}: {one_line(words or done.stderr)}")


def run(command: Sequence[str], commands: Sequence[str]) -> subprocess.CompletedProcess[str]:
    assert not any("\n" in line for line in commands), commands
    text = "".join(f"{line}\n" for line in commands)
    if not text:
        return subprocess.CompletedProcess(command, 0, "", "")
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
            env=ENVIRONMENT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Temporary(f"{' '.join(command)}: {error}") from error


def set_kernel(setting: str, value: str) -> None:
    """Write it where it says something else. Raises Temporary where that is refused."""
    try:
        if kernel_value(setting) != value:
            with open(SYSCTL + setting, "w", encoding="ascii") as file:
                file.write(value)
    except OSError as error:
        raise Temporary(f"cannot set net/{setting} to {value}: {error.strerror}") from error


def kernel_value(setting: str) -> str:
    """Empty: the kernel has no such setting, or not in this namespace."""
    try:
        with open(SYSCTL + setting, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def kernel_says(settings: Iterable[tuple[str, str]]) -> bool:
    """Whether all of them are so."""
    return all(kernel_value(setting) == value for setting, value in settings)


def silence(interface: str) -> Iterator[tuple[str, str]]:
    """Settings of a bridge's port: the host itself neither speaks nor hears IP on it. (Frames to some of the addresses kept for
    bridges go past the bridge to the host.)"""
    yield f"ipv6/conf/{interface}/disable_ipv6", "1"
    yield f"ipv4/conf/{interface}/arp_ignore", "8"  # no answer for any address
