"""Who asks: finds what is known of a guest by the address that it asks from, in the files that the host daemon writes.

An address is one VM's in the whole cloud, and the packet filter lets nobody else use it; a link-local one only on its network.
What two claim is nobody's. Used by `ucloud daemon metadata`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, TypeAlias

from ucloud.model.wiring import Metadata

SETTLED_NS = 100_000_000  # two changes of a directory may bear the same time if nearer to each other (a tick of the kernel)
REST = 10  # times as long as the last look at the files took: so they never cost more than a tenth of a core
MAX_REST_S = 2.0  # it may have taken long because this process was stopped; what is known may be another's by then

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
        return self._known.get(spot(address, vni))

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
        self._rests_until_s = self._now_s() + min(REST * (self._now_s() - began_s), MAX_REST_S)


def by_source(things: Iterable[Metadata]) -> Mapping[tuple[Address, int], Metadata | None]:
    """None: two claim it. What makes no sense is left out."""
    known: dict[tuple[Address, int], Metadata | None] = {}
    for thing in things:
        with suppress(ValueError):
            for key in [spot(source, thing.vni) for source in thing.sources]:
                known[key] = None if key in known else thing
    return known


def spot(address: str, vni: int) -> tuple[Address, int]:
    """A link-local address is there once in each network. IPv4 is meant where a socket for both says it in IPv6 (RFC 4291,
    section 2.5.5.2). Raises ValueError."""
    source = ip_address(address)
    if isinstance(source, IPv6Address):
        source = source.ipv4_mapped or source
    return source, vni if source.is_link_local else 0
