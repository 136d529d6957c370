"""/v1/vms/<vm>/explain: everything that is known about a VM, for whoever asks why it is as it is."""

from typing import Annotated

from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api import event, phase
from ucloud.api.advice import Advice, advice
from ucloud.api.describe import describe
from ucloud.api.event import EventShown
from ucloud.api.fields import Id, Timestamp
from ucloud.api.host import FenceShown, show_fence
from ucloud.api.phase import Phase, Sight, State, Waiting
from ucloud.api.records import fresh
from ucloud.api.services import services
from ucloud.api.vm import vm_of
from ucloud.api.vmshow import show_sight
from ucloud.base.ids import is_id
from ucloud.model.event import Event
from ucloud.model.host import Failover, Host
from ucloud.model.vm import Placement, Power, Vm, Want

routes = Blueprint("explain", __name__)

EVENTS = 16  # the newest
MOST_FORMER = 8  # hosts that died, of which it is asked whether the VM was there


class Wanted(Struct, frozen=True, kw_only=True):
    """What people want."""

    power: Power
    boots: Annotated[int, Meta(description="how often it was told to start")]
    cpus: int
    memory_mib: int
    disk_mib: int
    image: str
    networks: Annotated[list[str], Meta(description="names")]
    host: Annotated[str, Meta(description="where alone it may run: a host or a label; empty: anywhere")]
    spread: str
    deleted_at: Timestamp | None


class Placed(Struct, frozen=True, kw_only=True):
    """What the scheduler has decided. host: its name; empty: none yet, and the reason says why."""

    host: str
    epoch: int
    since: Timestamp
    reason: str


class Told(Struct, frozen=True, kw_only=True):
    """What the scheduler has told the host. is_current: it was made from what is wanted now."""

    want: Want
    boots: int
    epoch: int
    cpus: int
    memory_mib: int
    is_current: bool


class Said(Struct, frozen=True, kw_only=True):
    """What the host has said last. is_current: the host is alive and was not declared dead since, so that this can be relied
    on."""

    phase: str
    boots: int
    epoch: int
    since: Timestamp
    crashes: int
    error: str
    is_current: bool


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a VM is as it is: each step from what is wanted to what runs, who has to act next, and what happened so far."""

    id: Id
    name: str
    phase: Phase
    summary: Annotated[str, Meta(description="a sentence")]
    at: Annotated[Timestamp, Meta(description="when this was so, by the clock of the API")]
    wanted: Wanted
    placement: Placed | None
    manifest: Told | None
    status: Said | None
    fence: Annotated[FenceShown | None, Meta(description="its host was declared dead")]
    waiting_for: Waiting | None
    events: Annotated[list[EventShown], Meta(description="the last ones, oldest first")]
    advice: Annotated[list[Advice], Meta(description="what one can do")]


@routes.get("/v1/vms/<reference>/explain")
@describe("Explain why a VM is as it is", answer=Explanation)
def explain_vm(reference: str) -> Explanation:
    """Read from the store at this moment, one record after the other."""
    vm, source = vm_of(reference), fresh()
    sight = phase.gather(source, vm)
    shown, state = show_sight(sight, source), phase.state(sight)
    host = sight.placement.host if sight.placement else ""
    told_of = story(vm.record, sight.placement, known_events(vm.record, host))
    wish = source.get(Host, Host.at(vm.record.host)) if is_id(vm.record.host) else None
    failover = source.get(Failover, Failover.at("failover"))
    return Explanation(
        id=shown.id,
        name=shown.name,
        phase=state.phase,
        summary=summary(sight, state),
        at=services().now(),
        wanted=Wanted(
            power=shown.power,
            boots=shown.boots,
            cpus=shown.cpus,
            memory_mib=shown.memory_mib,
            disk_mib=shown.disk_mib,
            image=shown.image,
            networks=[port.network for port in shown.ports],
            host=shown.wanted_host,
            spread=shown.spread,
            deleted_at=shown.deleted_at,
        ),
        placement=placed(sight),
        manifest=told(sight),
        status=said(sight),
        fence=show_fence(sight.fence),
        waiting_for=with_since(state, told_of, host),
        events=[event.show(item, services()) for item in told_of[-EVENTS:]],
        advice=advice(sight, state, wish.record if wish else None, is_armed=failover is None or failover.record.armed),
    )


def summary(sight: Sight, state: State) -> str:
    name, where = sight.vm.record.name, f" on {sight.host_name}" if sight.host_name else ""
    waits = f": it waits for {state.waiting.what.partition(': ')[0]}" if state.waiting else ""
    if state.phase == "deleting":
        return f"{name} is being deleted{waits}."
    if state.phase == "unknown" and not sight.fence:
        return f"{name} is unknown: {sight.host_name} is not heard of, so its guest may run or not."
    if sight.fence:
        return f"{name} is {state.phase}, as {state.reason}{waits}."
    if sight.placement and sight.placement.lost:
        return f"{name} has failed: {state.reason}."
    if state.phase == "stopped" and not waits:
        return f"{name} is stopped{where}: {state.reason}."
    return f"{name} is {state.phase}{where}{waits}."


def placed(sight: Sight) -> Placed | None:
    placement = sight.placement
    if placement is None:
        return None
    return Placed(
        host=sight.host_name,
        epoch=placement.epoch,
        since=placement.since,
        reason=placement.reason.removeprefix(f"placed on {sight.host_name}: "),
    )


def told(sight: Sight) -> Told | None:
    manifest = sight.manifest
    if manifest is None:
        return None
    return Told(
        want=manifest.want,
        boots=manifest.boots,
        epoch=manifest.epoch,
        cpus=manifest.cpus,
        memory_mib=manifest.memory_mib,
        is_current=manifest.revisions.get("vm") == sight.vm.revision,
    )


def said(sight: Sight) -> Said | None:
    status = sight.status or sight.former
    if status is None:
        return None
    return Said(
        phase=status.phase,
        boots=status.boots,
        epoch=status.epoch,
        since=status.since,
        crashes=status.crashes,
        error=status.error,
        is_current=sight.alive and sight.status is not None and sight.fence is None,
    )


def known_events(vm: Vm, host: str) -> list[Event]:
    """What scheduler and host manager tell, the VM's host, and hosts on which it may have been when they died."""
    store = services().store
    of_control = event.told_by(store, (event.SCHEDULER, event.HOSTMANAGER))
    dead = event.declared_dead(of_control, vm.created)[-MOST_FORMER:]
    of_hosts = event.told_by(store, dict.fromkeys([*dead, host] if host else dead))
    return sorted([*of_control, *of_hosts], key=lambda item: item.id)


def story(vm: Vm, placement: Placement | None, events: list[Event]) -> list[Event]:
    """Those about the VM, and what befell the host on which it was then. Where it was before its present placement, the events
    of hosts about it tell. events: oldest first."""
    told_of, was_on = [], ""
    for item in events:
        if item.about == vm.key:
            told_of.append(item)
            was_on = was_on if item.writer in event.OF_CONTROL else item.writer
        else:
            host = placement.host if placement and item.time > placement.since else was_on
            if host and item.time > vm.created and event.tells_of_host(item, host):
                told_of.append(item)
    return told_of


def with_since(state: State, events: list[Event], host: str) -> Waiting | None:
    if state.waiting is None or state.waiting.since or state.phase != "unknown":
        return state.waiting
    return Waiting(state.waiting.what, state.waiting.who, event.silent_since(events, host))
