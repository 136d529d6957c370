"""What state a VM is in, told from its records: phase, reason, what it waits for, and its last error. Pure but for `gather`."""

from typing import Literal, NamedTuple

import msgspec

from ucloud.api.records import R, Source
from ucloud.model import keys
from ucloud.model.host import Alive, Fence, Hold, Host
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Placement, Status, Vm

Phase = Literal[
    "pending", "placing", "starting", "running", "stopping", "stopped", "migrating", "deleting", "failed", "unknown"
]


class Sight(NamedTuple):
    """All records about one VM. status: what the host that owns it now says, if it said anything in this epoch; former: what
    it has said of an earlier one. fence: that host was declared dead. hold: why it is not, though it is silent."""

    vm: Fact[Vm]
    placement: Placement | None
    manifest: Manifest | None
    status: Status | None
    alive: bool
    host_name: str
    former: Status | None = None
    fence: Fence | None = None
    hold: str = ""

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
    said = _record(source.get(Status, Status.at(host, "vm", id)))
    status, former = (said, None) if said and said.epoch == placement.epoch else (None, said)
    alive = source.get(Alive, Alive.at(host)) is not None
    fence = _record(source.get(Fence, keys.fence(host)))
    hold = None if alive or fence else _record(source.get(Hold, Hold.at("hold")))
    why = hold.reason if hold and host in hold.hosts else ""
    return Sight(vm, placement, manifest, status, alive, host_name(source, host), former, fence, why)


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
    if not sight.placed:
        return _without_host(sight, reason)
    assert sight.placement is not None
    if sight.fence:
        reason = f"{sight.host_name} was declared dead (fence {sight.fence.number})"
        return State("placing" if sight.alive else "unknown", reason, _after(sight, sight.fence))
    if not sight.alive:
        reason = f"{sight.host_name} is not heard of: the guest may run or not"
        held = f"; it is not declared dead: {sight.hold}" if sight.hold else ""
        return State("unknown", reason, Waiting(f"{sight.host_name} to be alive again{held}", sight.host_name, None))
    if sight.status is None:
        return State("placing", reason, Waiting(f"{sight.host_name} to take it over", sight.host_name, sight.placement.since))
    return _on_host(sight, sight.status, reason)


def _without_host(sight: Sight, reason: str) -> State:
    vm, placement = sight.vm.record, sight.placement
    if placement and placement.lost:
        return State("failed", reason, Waiting("somebody to delete it: nothing is left of it", "its owner", placement.since))
    if vm.power == "off":
        had_one = placement is not None and placement.epoch > 0
        return State("stopped", "its host has died" if had_one else "it was stopped before it had a host")
    what = f"a host with room for it: {reason}" if reason else "the scheduler to choose a host"
    return State("pending", reason, Waiting(what, "scheduler", placement.since if placement else vm.created))


def _after(sight: Sight, fence: Fence) -> Waiting:
    """What comes next for a VM of a host that was declared dead: the scheduler looks at it as soon as the fence stands."""
    placement, name = sight.placement, sight.host_name
    if fence.phase == "fencing":
        return Waiting(f"{name} to be cut off from its pools", "hostmanager", fence.since)
    if placement and placement.waits_for:
        return Waiting(placement.waits_for, name, placement.waits_since or fence.since)
    return Waiting(f"the scheduler to find another host for it than {name}", "scheduler", fence.since)


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
    if sight.fence:
        return _after(sight, sight.fence)
    if not sight.alive:
        return Waiting(f"{sight.host_name} to be alive again, and to remove it", sight.host_name, since)
    return Waiting(f"{sight.host_name} to remove guest and disk", sight.host_name, since)
