"""What ucloud needs of a system's network: namespaces, bridges, cables between them, a router. Used by
`ucloud up` and `lab`.

Everything is safe to repeat: what is there already stays, what is gone already is no error. What the system refuses is
Temporary with a message for people.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class End(msgspec.Struct, frozen=True):
    """One end of a cable: interface `name` in `namespace` (empty: the machine's own), either a port of `bridge` or with an
    IPv6 `address` such as fd00::1/64."""

    namespace: str
    name: str
    bridge: str = ""
    address: str = ""


class Router(msgspec.Struct, frozen=True):
    """A namespace between the hosts' network and the machine. inside, outside: its interfaces; the rest are prefixes."""

    namespace: str
    inside: str
    underlay: str
    public: str
    outside: str
    machine: str


class Links(Protocol):
    def namespaces(self) -> frozenset[str]: ...

    def add_namespace(self, name: str) -> bool:
        """With its loopback up. Answers whether it was made now."""

    def remove_namespace(self, name: str) -> None:
        """Its interfaces go with it, when no process is left inside."""

    def interfaces(self, namespace: str) -> frozenset[str]: ...

    def add_bridge(self, namespace: str, name: str) -> None:
        """A switch that passes multicast on."""

    def add_cable(self, one: End, other: End) -> None:
        """A cable of which an end is missing, or sits elsewhere, is replaced."""

    def remove_interface(self, namespace: str, name: str) -> None:
        """A cable goes with either of its ends."""

    def plug(self, namespace: str, name: str) -> None:
        """The cable at this interface works again."""

    def unplug(self, namespace: str, name: str) -> None:
        """Nothing passes through the cable at this interface. The other end keeps its addresses."""

    def add_route(self, namespace: str, prefix: str, via: str) -> None:
        """Packets to `prefix` go to the router `via`, whatever was said of it before."""

    def make_router(self, router: Router) -> None:
        """Packets pass between its two interfaces: in by `inside` only from the underlay and from public addresses, in by
        `outside` only from the machine, and none from public addresses to the underlay. The router itself answers the
        hosts' BGP and BFD, and for all others nothing but ICMPv6."""

    def mute(self, namespace: str, served: Sequence[int], asked: Sequence[int]) -> None:
        """TCP to and from the ports `served` in this namespace vanishes without an answer, and so does what is asked, from
        inside it, of the ports `asked` elsewhere. As if a process had lost its machine: no reset tells of it."""

    def unmute(self, namespace: str) -> None: ...
