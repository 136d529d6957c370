"""What ucloud needs of a system's network: namespaces, bridges, and cables between them. Used by `ucloud up`.

Everything is safe to repeat: what is there already stays, what is gone already is no error. What the system refuses is
Temporary with a message for people.
"""

from typing import Protocol

import msgspec


class End(msgspec.Struct, frozen=True):
    """One end of a cable: interface `name` in `namespace` (empty: the machine's own), either a port of `bridge` or with an
    IPv6 `address` such as fd00::1/64."""

    namespace: str
    name: str
    bridge: str = ""
    address: str = ""


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
