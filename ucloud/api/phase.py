"""What state a VM is in, told from its records: phase, reason, what it waits for, and its last error. Pure but for `gather`."""

from typing import Literal, NamedTuple

import msgspec

from ucloud.api.records import R, Source
from ucloud.model.host import Alive, Host
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Placement, Status, Vm

Phase = Literal[
    "pending", "placing", "starting", "running", "stopping", "stopped", "migrating", "deleting", "failed", "unknown"
]


class Sight(NamedTuple):
    """All records about one VM. status: what the host that owns it now says, if it said anything in this epoch."""

    vm: Fact[Vm]
    placement: Placement | None
    manifest: Manifest | None
    status: Status | None
    alive: bool
    host_name: str

    @property
    def placed(self) -> bool:
        return self.placement is not None and self.placement.host != ""


class Waiting(msgspec.Struct, frozen=True):
    """What must happen next, by whom, and since when that is waited for, where it is known."""

    what: str
    who: str
    since: str | None


class State(NamedTuple):
    phase: Phase
    reason: str = ""
    waiting: Waiting | None = None


def keys_of(id: str, host: str) -> list[str]:
    """All that `gather` reads of a VM itself, if this host owns it."""
    of_host = (Manifest.at(host, id), Status.at(host, "vm", id)) if host else ()
    return [Vm.at(id), Placement.at(id), *of_host]


def gather(source: Source, vm: Fact[Vm]) -> Sight:
    """The placement is read after the VM, and the host's records after the placement: a host is asked only once it owns."""
    id = vm.record.id
    placement = _record(source.get(Placement, Placement.at(id)))
    if placement is None or not placement.host:
        return Sight(vm, placement, None, None, False, "")
    host = placement.host
    manifest = _record(source.get(Manifest, Manifest.at(host, id)))
    status = _record(source.get(Status, Status.at(host, "vm", id)))
    told = status if status and status.epoch == placement.epoch else None
    alive = source.get(Alive, Alive.at(host)) is not None
    return Sight(vm, placement, manifest, told, alive, host_name(source, host))


def _record(fact: Fact[R] | None) -> R | None:
    return fact.record if fact else None


def host_name(source: Source, host: str) -> str:
    fact = source.get(Host, Host.at(host))
    return fact.record.name if fact else host


def reached(sight: Sight, revision: int) -> bool:
    """The host has acted on the VM's record as it was at this revision, or later."""
    return sight.status is not None and sight.status.revisions.get("vm", 0) >= revision


def is_at_rest(sight: Sight) -> bool:
    """Its host has no guest of it, and starts none before the VM's record changes. Holds if that was read before the rest:
    what its host is told from then on is told of this record, which wants it off."""
    return sight.vm.record.power == "off" and is_stopped(sight)


def is_stopped(sight: Sight) -> bool:
    """Its host has no guest of it, as it was told last."""
    told, said = sight.manifest, sight.status
    return told is not None and said is not None and told.want == said.phase == "stopped" and told.revisions == said.revisions


def state(sight: Sight) -> State:
    """An `unknown` VM may run or not: its host is silent. A VM that nobody may start is `stopped` though never placed."""
    vm, reason = sight.vm.record, sight.placement.reason if sight.placement else ""
    if vm.deleted_at:
        return State("deleting", "it was deleted", _deletion(sight))
    if sight.placement and sight.placement.lost:
        return State(
            "failed", reason, Waiting("somebody to delete it: nothing of it is left", "its owner", sight.placement.since)
        )
    if not sight.placed:
        since = sight.placement.since if sight.placement else vm.created
        if vm.power == "off":
            return State("stopped", "it was stopped before it had a host")
        what = f"a host with room for it: {reason}" if reason else "the scheduler to choose a host"
        return State("pending", reason, Waiting(what, "scheduler", since))
    assert sight.placement is not None
    if not sight.alive:
        reason = f"{sight.host_name} is not heard of: the guest may run or not"
        return State(
            "unknown", reason, _failover(sight) or Waiting(f"{sight.host_name} to be alive again", sight.host_name, None)
        )
    if sight.status is None:
        takeover = Waiting(f"{sight.host_name} to take it over", sight.host_name, sight.placement.since)
        return State("placing", reason, _failover(sight) or takeover)
    return _on_host(sight, sight.status, reason)


def _failover(sight: Sight) -> Waiting | None:
    """What a VM of a host that was declared dead waits for, if it cannot go elsewhere."""
    placement = sight.placement
    if not placement or not placement.waits_for:
        return None
    return Waiting(placement.waits_for, sight.host_name, placement.waits_since or None)


def _on_host(sight: Sight, status: Status, reason: str) -> State:
    vm = sight.vm.record
    if vm.power == "off":
        if status.phase in ("stopped", "off"):
            reason = "it was stopped" if status.phase == "stopped" else "the guest powered itself off"
            return State("stopped", reason, _note(sight))
        return State("stopping", reason, _on("the guest to stop", sight))
    if status.phase == "stopping":
        return State("stopping", reason, _on("the guest to stop", sight))
    if vm.boots > status.boots:
        return State("starting", reason, _on("the guest to be started", sight))
    if status.phase == "off":
        return State("stopped", "the guest powered itself off")
    if status.phase == "stopped":
        if status.error:
            return State("failed", reason, _on("the host to try again", sight))
        return State("starting", reason, _on("the guest to be started", sight))
    if status.phase == "running":
        return State("running", reason, _note(sight) if status.error or _moves(sight) else None)
    return State("starting", reason, _on("the host to try again" if status.error else "disk and guest to be ready", sight))


def _note(sight: Sight) -> Waiting | None:
    """Until its host has heard of the last change of what is wanted, and has done what there was to do."""
    return None if reached(sight, sight.vm.revision) else _on(f"{sight.host_name} to take note of it", sight)


def _on(what: str, sight: Sight) -> Waiting:
    """First the scheduler passes a change on to the host, then the host acts."""
    told = sight.manifest is not None and sight.manifest.revisions.get("vm", 0) >= sight.vm.revision
    if not told and sight.placement and sight.placement.waits_for:
        what = "its networks" if _moves(sight) and not _grows(sight) else "room for its new size"
        return Waiting(f"{what}: {sight.placement.waits_for}", "scheduler", sight.placement.waits_since)
    if not told:
        return Waiting(f"the scheduler to tell {sight.host_name}", "scheduler", None)
    begun = sight.status is not None and sight.status.phase in ("starting", "stopping")
    return Waiting(what, sight.host_name, sight.status.since if sight.status and begun else None)


def _moves(sight: Sight) -> bool:
    """To other networks than its host was told of."""
    told = {port.network.id for port in sight.manifest.ports} if sight.manifest else set()
    return {port.network for port in sight.vm.record.ports} != told


def _grows(sight: Sight) -> bool:
    vm, told = sight.vm.record, sight.manifest
    return told is not None and (vm.cpus > told.cpus or vm.memory_mib > told.memory_mib)


def _deletion(sight: Sight) -> Waiting:
    since = sight.vm.record.deleted_at
    if not sight.placed:
        return Waiting("its records to be removed", "scheduler", since)
    if not sight.alive:
        return _failover(sight) or Waiting(f"{sight.host_name} to be alive again, and to remove it", sight.host_name, since)
    return Waiting(f"{sight.host_name} to remove guest and disk", sight.host_name, since)
