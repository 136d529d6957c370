"""Every protection can be taken away from outside, to prove that the simulator notices (tests/sim/test_protections.py).

Nothing in production code knows of this: what is weakened here is what a loop is handed, or a subclass of it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from flask import has_request_context, request

from sim.disarmed import NoDegraded, NoEnd, NoHa, NoKill, NoPatience, NoProof, NoRewrite, no_epochs
from sim.weakened import (
    NoAge,
    NoBootsRule,
    NoConfirmation,
    NoDistrust,
    NoOwnWrites,
    NoResync,
    NoStartingCommit,
    NothingIsBad,
    NoWires,
    all_known,
    never_removed,
    plugs_first,
)
from ucloud.daemon.network import host_network
from ucloud.host.deadman import Deadman
from ucloud.host.loop import HostLoop
from ucloud.host.network import HostNetwork
from ucloud.hostmanager.manager import Manager
from ucloud.loop import Decider
from ucloud.model import keys
from ucloud.model.decision import Decision, NotNewer, Requirement, Unchanged
from ucloud.model.vm import Manifest
from ucloud.store.contract import Item
from ucloud.store.memory import MemoryStore
from ucloud.store.view import View


def everything(_: Requirement) -> bool:
    return True


def as_it_is(_: MemoryStore, item: Item) -> Item:
    return item


@dataclass(frozen=True)
class Protections:
    """What nodes are built from. keeps, host_keeps, api_keeps: which requirements schedulers, hosts and APIs send to the
    store. api_sees: how a record looks to an API that asks for it."""

    keeps: Callable[[Requirement], bool] = everything
    host_keeps: Callable[[Requirement], bool] = everything
    api_keeps: Callable[[Requirement], bool] = everything
    api_sees: Callable[[MemoryStore, Item], Item | None] = as_it_is
    host_loop: type[HostLoop] = HostLoop
    decider: type[Decider] = Decider
    manager: type[Manager] = Manager
    deadman: type[Deadman] = Deadman
    rewrite: Callable[[list[Decision]], list[Decision]] = list
    view: type[View] = View
    network: Callable[..., HostNetwork] = host_network


def about(requirement: Requirement, prefix: str) -> bool:
    return isinstance(requirement, Unchanged) and requirement.key.startswith(prefix)


def only_lock(requirement: Requirement) -> bool:
    return about(requirement, "lock/")


def no_lock(requirement: Requirement) -> bool:
    """But the lock itself is still taken only when it is free."""
    return not about(requirement, "lock/") or requirement.revision == 0


def no_not_newer(requirement: Requirement) -> bool:
    return not isinstance(requirement, NotNewer)


def no_absent_status(requirement: Requirement) -> bool:
    return not about(requirement, "status/")


def no_manifest(requirement: Requirement) -> bool:
    return not about(requirement, "manifest/")


def no_old_alive(requirement: Requirement) -> bool:
    return not about(requirement, "alive/")


def no_old_vm(requirement: Requirement) -> bool:
    return not about(requirement, "vm/")


def no_unique_name(requirement: Requirement) -> bool:
    return not about(requirement, "unique/vm/")


def no_idempotency(requirement: Requirement) -> bool:
    return not about(requirement, "idempotency/")


def no_unchanged_image(requirement: Requirement) -> bool:
    return not about(requirement, "image/")


def no_unused_image(requirement: Requirement) -> bool:
    return not (isinstance(requirement, NotNewer) and requirement.prefix.startswith("use/image/"))


def no_host(requirement: Requirement) -> bool:
    return not about(requirement, "host/")


def no_alive(requirement: Requirement) -> bool:
    return not about(requirement, "alive/")


def no_neighbours(decisions: list[Decision]) -> list[Decision]:
    """Without what a VM's group has to do with it."""
    kept = []
    for decision in decisions:
        hosts = {record.host for record in decision.puts if isinstance(record, Manifest)}
        own = {keys.manifests(host) for host in hosts}
        requires = tuple(r for r in decision.requires if not isinstance(r, NotNewer) or r.prefix in own)
        kept.append(msgspec.structs.replace(decision, requires=requires))
    return kept


def without(prefix: str) -> Callable[[MemoryStore, Item], Item | None]:
    return lambda _, item: None if item.key.startswith(prefix) else item


def at_rest(store: MemoryStore, item: Item) -> Item:
    """Whoever asks for a resize finds that every host has said what it was told."""
    if not (has_request_context() and request.path.endswith("/resize")):
        return item
    kind, host, *vm = item.key.split("/")
    manifest = store.get(Manifest.at(host, vm[-1])) if kind == "status" and vm[0] == "vm" else None
    if manifest is None:
        return item
    with suppress(msgspec.DecodeError, KeyError, TypeError):  # a hand may have been there
        status, told = msgspec.json.decode(item.value), msgspec.json.decode(manifest.value)
        stopped = {**status, "phase": "stopped", "from": told["from"]}
        return msgspec.structs.replace(item, value=msgspec.json.encode(stopped))
    return item


def no_placement(requirement: Requirement) -> bool:
    return not about(requirement, "placement/")


def no_room_to_grow(decisions: list[Decision]) -> list[Decision]:
    """What hosts of VMs that have one are told does not rest on the room that they have."""
    return [
        msgspec.structs.replace(decision, requires=tuple(r for r in decision.requires if not isinstance(r, NotNewer)))
        if decision.verb == "tell"
        else decision
        for decision in decisions
    ]


def no_unique_address(requirement: Requirement) -> bool:
    return not about(requirement, "unique/address/")


def no_unchanged_network(requirement: Requirement) -> bool:
    return not about(requirement, "network/")


def no_unused_network(requirement: Requirement) -> bool:
    return not (isinstance(requirement, NotNewer) and requirement.prefix.startswith("use/network/"))


def no_unchanged_key(requirement: Requirement) -> bool:
    return not about(requirement, "key/")


def no_unused_key(requirement: Requirement) -> bool:
    return not (isinstance(requirement, NotNewer) and requirement.prefix.startswith("use/key/"))


def no_project(requirement: Requirement) -> bool:
    return not about(requirement, "project/")


def no_user_data(requirement: Requirement) -> bool:
    """Whoever uses it, and has just put it again."""
    key = requirement.key if isinstance(requirement, Unchanged) else requirement.prefix
    return not key.startswith(("blob/", "use/blob/"))


def no_unnamed_copy(decisions: list[Decision]) -> list[Decision]:
    """What a host has of user data is cleared whatever else that host was told of."""
    return [
        msgspec.structs.replace(decision, requires=tuple(r for r in decision.requires if not isinstance(r, NotNewer)))
        if decision.verb == "clear" and decision.key.startswith(Manifest.prefix)
        else decision
        for decision in decisions
    ]


def no_fence(requirement: Requirement) -> bool:
    return not about(requirement, "fence/")


def no_arming(requirement: Requirement) -> bool:
    return not about(requirement, "cluster/")


def no_book(requirement: Requirement) -> bool:
    return not about(requirement, "port/")


PROTECTIONS: dict[str, Protections] = {
    "requirements": Protections(keeps=only_lock),
    "leader-lock": Protections(keeps=no_lock),
    "not-newer": Protections(keeps=no_not_newer),
    "absent-status": Protections(keeps=no_absent_status),
    "host-enabled": Protections(keeps=no_host),
    "host-alive": Protections(keeps=no_alive),
    "spread": Protections(rewrite=no_neighbours),
    "unchanged-manifest": Protections(host_keeps=no_manifest),
    "starting-commit": Protections(host_loop=NoStartingCommit),
    "boots-rule": Protections(host_loop=NoBootsRule),
    "own-alive": Protections(host_keeps=no_old_alive),
    "read-again": Protections(view=NoDistrust),
    "own-writes": Protections(decider=NoOwnWrites),
    "resync": Protections(view=NoResync),
    "view-age": Protections(view=NoAge),
    "bad-left-alone": Protections(view=NothingIsBad),
    "unchanged-vm": Protections(api_keeps=no_old_vm),
    "unique-names": Protections(api_keeps=no_unique_name, api_sees=without("unique/vm/")),
    "idempotency": Protections(api_keeps=no_idempotency, api_sees=without("idempotency/")),
    "unchanged-image": Protections(api_keeps=no_unchanged_image),
    "unchanged-placement": Protections(api_keeps=no_placement),
    "room-to-grow": Protections(rewrite=no_room_to_grow),
    "stopped-before-resize": Protections(api_sees=at_rest),
    "unused-image": Protections(api_keeps=no_unused_image),
    "unique-addresses": Protections(api_keeps=no_unique_address, api_sees=without("unique/address/")),
    "unchanged-network": Protections(api_keeps=no_unchanged_network),
    "unused-network": Protections(api_keeps=no_unused_network),
    "detached-before-told": Protections(api_keeps=no_book),
    "unchanged-key": Protections(api_keeps=no_unchanged_key),
    "unused-key": Protections(api_keeps=no_unused_key),
    "default-key": Protections(api_keeps=no_project),
    "unused-user-data": Protections(keeps=no_user_data),
    "unnamed-copy": Protections(rewrite=no_unnamed_copy),
    "confirmed-detach": Protections(view=NoConfirmation),
    "wired-before-said": Protections(host_loop=NoWires),
    "filter-before-plug": Protections(network=plugs_first),
    "unplugged-before-gone": Protections(network=never_removed),
    "unknown-stays-plugged": Protections(network=all_known),
    "nothing-begins-fenced": Protections(host_keeps=no_fence),
    "deadman": Protections(deadman=NoKill),
    "silent-for-long-enough": Protections(manager=NoPatience),
    "proof-before-moving": Protections(manager=NoProof),
    "ended-before-said": Protections(host_loop=NoEnd),
    "rewritten-before-lift": Protections(view=NoRewrite),
    "armed": Protections(keeps=no_arming),
    "degraded": Protections(view=NoDegraded),
    "ha-never": Protections(view=NoHa),
    "epochs": Protections(rewrite=no_epochs),
}
