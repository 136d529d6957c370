"""Namespaces, bridges, cables (veth) and routers of Linux, by the commands `ip` of iproute2 and `nft`."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ucloud.base.errors import Temporary
from ucloud.driver.link.contract import End, Router

NAMESPACES = Path("/run/netns")  # where `ip netns` keeps them: a mount on an empty file for each
UNMUTED = "table inet muted; delete table inet muted"  # whether it was there or not
MUTED = """
table inet muted {{
    chain in {{ type filter hook input priority -400; tcp dport {{ {served} }} drop; tcp sport {{ {asked} }} drop; }}
    chain out {{ type filter hook output priority -400; tcp sport {{ {served} }} drop; tcp dport {{ {asked} }} drop; }}
}}
"""

ROUTER = """
table inet router; delete table inet router
table inet router {{
    chain source {{
        type filter hook prerouting priority raw
        ip6 saddr {{ ::, fe80::/10 }} accept
        iifname {inside} ip6 saddr {{ {underlay}, {public} }} accept
        iifname {outside} ip6 saddr {machine} accept
        iifname != lo drop
    }}
    chain pass {{
        type filter hook forward priority filter
        ip6 saddr {public} ip6 daddr {underlay} drop
    }}
    chain own {{
        type filter hook input priority filter; policy drop
        iifname lo accept
        meta l4proto icmpv6 accept
        iifname {inside} ip6 saddr {underlay} tcp dport 179 accept
        iifname {inside} ip6 saddr {underlay} udp dport 3784 accept
    }}
}}
"""


class LinuxLinks:
    def namespaces(self) -> frozenset[str]:
        if not NAMESPACES.is_dir():
            return frozenset()
        kind = Path("/proc/self/ns/net").stat().st_dev
        return frozenset(file.name for file in NAMESPACES.iterdir() if file.stat().st_dev == kind)

    def add_namespace(self, name: str) -> bool:
        if name in self.namespaces():
            return False
        (NAMESPACES / name).unlink(missing_ok=True)  # left behind by a reboot where /run is on a disk
        run("netns", "add", name)
        run("-n", name, "link", "set", "lo", "up")
        return True

    def remove_namespace(self, name: str) -> None:
        if name in self.namespaces():
            run("netns", "delete", name)
        (NAMESPACES / name).unlink(missing_ok=True)
        remove_if_empty(NAMESPACES)

    def interfaces(self, namespace: str) -> frozenset[str]:
        return frozenset(link["ifname"] for link in self._links(namespace))

    def add_bridge(self, namespace: str, name: str) -> None:
        if name not in self.interfaces(namespace):
            run(*within(namespace), "link", "add", name, "type", "bridge", "mcast_snooping", "0")
        run(*within(namespace), "link", "set", name, "up")

    def add_cable(self, one: End, other: End) -> None:
        if not (self._stands(one) and self._stands(other)):
            self.remove_interface(one.namespace, one.name)
            self.remove_interface(other.namespace, other.name)
            ends = [(end.name, *(("netns", end.namespace) if end.namespace else ())) for end in (one, other)]
            run("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            if not one.namespace or not other.namespace:
                refuse_router_advertisements(one if not one.namespace else other)
        batch(words for end in (one, other) for words in connect(end))

    def remove_interface(self, namespace: str, name: str) -> None:
        if (not namespace or namespace in self.namespaces()) and name in self.interfaces(namespace):
            run(*within(namespace), "link", "delete", name)

    def plug(self, namespace: str, name: str) -> None:
        run(*within(namespace), "link", "set", name, "up")

    def unplug(self, namespace: str, name: str) -> None:
        run(*within(namespace), "link", "set", name, "down")

    def add_route(self, namespace: str, prefix: str, via: str) -> None:
        run(*within(namespace), "-6", "route", "replace", prefix, "via", via)

    def make_router(self, router: Router) -> None:
        nft(router.namespace, ROUTER.format_map(msgspec.structs.asdict(router)))
        forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        command("ip", "netns", "exec", router.namespace, "sh", "-c", forward)

    def mute(self, namespace: str, served: Sequence[int], asked: Sequence[int]) -> None:
        text = MUTED.format(served=", ".join(map(str, served)), asked=", ".join(map(str, asked)))
        nft(namespace, f"{UNMUTED}\n{text}")

    def unmute(self, namespace: str) -> None:
        nft(namespace, UNMUTED)

    def _stands(self, end: End) -> bool:
        links = {link["ifname"]: link for link in self._links(end.namespace)}
        return end.name in links and links[end.name].get("master", "") == end.bridge

    def _links(self, namespace: str) -> list[dict[str, Any]]:
        links: list[dict[str, Any]] = json.loads(run(*within(namespace), "-j", "link", "show"))
        return links


def within(namespace: str) -> Iterable[str]:
    return ("-n", namespace) if namespace else ()


def connect(end: End) -> Iterator[tuple[str, ...]]:
    """No duplicate address detection: the addresses are ours, and daemons want to listen on them at once."""
    if end.bridge:
        yield *within(end.namespace), "link", "set", end.name, "master", end.bridge
    yield *within(end.namespace), "link", "set", end.name, "up"
    if end.address:
        yield *within(end.namespace), "-6", "address", "replace", end.address, "dev", end.name, "nodad"


def refuse_router_advertisements(end: End) -> None:
    """Nothing inside a cloud may change how the machine itself reaches the world."""
    Path(f"/proc/sys/net/ipv6/conf/{end.name}/accept_ra").write_text("0")


def batch(commands: Iterable[tuple[str, ...]]) -> None:
    for words in commands:
        run(*words)


def run(*arguments: str) -> str:
    return command("ip", *arguments)


def nft(namespace: str, rules: str) -> None:
    command("ip", "netns", "exec", namespace, "nft", rules)


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Temporary(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def remove_if_empty(directory: Path) -> None:
    """`ip netns` mounts its directory on itself and never takes that back; the last one out does."""
    if directory.is_dir() and not any(directory.iterdir()):
        subprocess.run(["umount", str(directory)], capture_output=True, timeout=30, check=False)
        try:
            directory.rmdir()
        except OSError:
            return  # somebody adds one just now
