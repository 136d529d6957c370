"""The network of a host: which sets of things it has, and which component says what is wanted of each. The only table that
knows them all; used by the host daemon, the simulator and tests."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from ucloud.base import config
from ucloud.base.clock import Clock
from ucloud.driver.things import FakeThings, Things
from ucloud.firewall import rules
from ucloud.host.network import HostNetwork
from ucloud.host.wiring import Set
from ucloud.ipam import wanted as ipam
from ucloud.metadata import wanted as metadata
from ucloud.model.vm import Manifest
from ucloud.model.wiring import HostName, Metadata, Plug, PortFilter, Reservation, Segment, Service, Taken
from ucloud.network import wanted as network
from ucloud.store.journal import Journal
from ucloud.store.view import View


class Hands(NamedTuple):
    """The drivers of a host's network. zones: the packet filter's part of a segment. interface, care: see HostNetwork."""

    segments: Things[Any]
    zones: Things[Any]
    filters: Things[Any]
    taken: Things[Any]
    plugs: Things[Any]
    services: Things[Any]
    reservations: Things[Any]
    names: Things[Any]
    metadata: Things[Any]
    interface: Callable[[str], str]
    care: Callable[[], Sequence[str]] = tuple


def fake_hands(make: Callable[[str], Things[Any]] = FakeThings) -> Hands:
    """make: answers a set, by the name of one of its things."""
    return Hands(
        segments=make("network"),
        zones=make("zone"),
        filters=make("filter"),
        taken=make("neighbour"),
        plugs=make("port"),
        services=make("service"),
        reservations=make("reservation"),
        names=make("name"),
        metadata=make("metadata"),
        interface=lambda key: f"tap-{key}",
    )


def sets(hands: Hands) -> list[Set]:
    """In the order in which they are added. Filters are there before anything can pass."""
    return [
        Set(Segment, hands.zones),
        Set(Segment, hands.segments),
        Set(PortFilter, hands.filters),
        Set(Taken, hands.taken),
        Set(Plug, hands.plugs),
        Set(Service, hands.services),
        Set(Reservation, hands.reservations),
        Set(HostName, hands.names),
        Set(Metadata, hands.metadata),
    ]


def host_network(
    host: str,
    settings: config.Network,
    hands: Hands,
    user_data: Callable[[Manifest], bytes],
    book: View,
    clock: Clock,
    journal: Journal | None = None,
    lock: AbstractContextManager[Any] | None = None,
) -> HostNetwork:
    """user_data: of a VM; may raise Temporary. book: a view of nothing."""
    return HostNetwork(
        host,
        sets(hands),
        [
            partial(network.things, group_prefix=settings.group),
            rules.things,
            partial(ipam.things, domain=settings.domain),
            partial(metadata.things, domain=settings.domain, user_data=user_data),
        ],
        [ipam.neighbours],
        hands.interface,
        book,
        clock,
        journal,
        hands.care,
        lock,
    )
