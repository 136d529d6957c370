"""Who asks: finds what is known of a guest by the address that it asks from, in the files that the host daemon writes.

An address is one VM's in the whole cloud, and the packet filter lets nobody else use it; a link-local one only on its network.
What two claim is nobody's. Used by `ucloud daemon metadata`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, TypeAlias

from ucloud.model.wiring import Metadata

SETTLED_NS = 100_000_000  # two changes of a directory may bear the same time if nearer to each other (a tick of the kernel)
REST = 10  # times as long as the last look at the files took: so they never cost more than a tenth of a core

Address: TypeAlias = IPv4Address | IPv6Address


class Files(Protocol):
    """See `ucloud.driver.metadata.files`. Both may raise Temporary."""

    def changed_ns(self) -> int: ...

    def actual(self) -> Mapping[str, Metadata | None]: ...


class Index:
    """For one thread."""

    def __init__(self, files: Files, now_s: Callable[[], float] = time.monotonic) -> None:
        self._files, self._now_s = files, now_s
        self._changed_ns = 0  # when the files did, before the last look; 0: look again
        self._rests_until_s = 0.0
        self._known: Mapping[tuple[Address, int], Metadata | None] = {}

    def find(self, address: str, vni: int) -> Metadata | None:
        """vni: of the network that it came from, which only link-local addresses need. None for who is not known. Raises
        Temporary when the files cannot be read."""
        self._refresh()
        source = plain(ip_address(address))
        return self._known.get((source, vni if source.is_link_local else 0))

    def _refresh(self) -> None:
        began_s = self._now_s()
        if began_s < self._rests_until_s:
            return
        changed_ns = self._files.changed_ns()
        if changed_ns == self._changed_ns:
            return
        is_settled = time.time_ns() - changed_ns > SETTLED_NS
        self._known = by_source(thing for thing in self._files.actual().values() if thing)
        self._changed_ns = changed_ns if is_settled else 0
        self._rests_until_s = self._now_s() + REST * (self._now_s() - began_s)


def by_source(things: Iterable[Metadata]) -> Mapping[tuple[Address, int], Metadata | None]:
    known: dict[tuple[Address, int], Metadata | None] = {}
    for thing in things:
        for source in map(ip_address, thing.sources):
            key = source, thing.vni if source.is_link_local else 0
            known[key] = None if key in known else thing
    return known


def plain(address: Address) -> Address:
    """IPv4 as it is, where a socket for both says it in IPv6 (RFC 4291, section 2.5.5.2)."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped or address
