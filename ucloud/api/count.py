"""What there is of everything, and what waits: counted for `GET /v1/cluster`."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, cast

from msgspec import Meta, Struct

from ucloud.api import capacity, phase
from ucloud.api import host as hosts
from ucloud.api.phase import Sight, State
from ucloud.api.records import R
from ucloud.base.clock import parse_timestamp
from ucloud.model.host import Alive, Failover, Fence, Hold, Host, Inventory
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.network import Network
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.store.view import View

NAMED = 5  # of those that are counted
MANY_CRASHES = 3
LONG_S = 600.0  # whoever waits longer than this may wait for ever
KINDS: tuple[type[Record], ...] = (
    *(Vm, Placement, Manifest, Status, Host, Alive, Fence, Failover, Hold, Inventory),
    *(Image, ImageState, Pool, Network),
)


class WaitingGroup(Struct, frozen=True, kw_only=True):
    """VMs that wait for the same. who: acts next, if it can."""

    what: str
    who: str
    vms: int
    names: Annotated[list[str], Meta(description="of some of them")]
    needs_somebody: Annotated[bool, Meta(description="it may never end by itself")]


class Counted(Struct, frozen=True, kw_only=True):
    """What there is, as the API sees it."""

    hosts: Annotated[dict[str, int], Meta(description="how many, by state")]
    pools: list[str]
    images: Annotated[dict[str, int], Meta(description="how many, by state")]
    networks: Annotated[dict[str, int], Meta(description="how many, public and private")]
    vms: Annotated[dict[str, int], Meta(description="how many, by phase")]
    waiting: list[WaitingGroup]
    silent: Annotated[dict[str, int], Meta(description="hosts that are down, with how many VMs are placed there")]
    fenced: Annotated[dict[str, int], Meta(description="hosts that were declared dead, with how many VMs are placed there")]
    degraded: Annotated[list[str], Meta(description="hosts that live though their daemon does not look at its guests")]
    unsafe: Annotated[dict[str, dict[str, str]], Meta(description="fenced hosts: pools that are not safe from them, and why")]
    disarmed: Annotated[str | None, Meta(description="why somebody wants no silent host declared dead; null if they are")]
    held: Annotated[str, Meta(description="why no silent host is declared dead just now; empty if they are")]
    failed_images: Annotated[dict[str, str], Meta(description="name and error")]
    crashing: Annotated[list[str], Meta(description="names of VMs that crashed again and again")]
    strays: Annotated[dict[str, list[str]], Meta(description="by host: VMs of which it has traces though it shall not")]
    unreadable: Annotated[dict[str, str], Meta(description="keys of records that cannot be read, with the reason")]


class Snapshot:
    """The records of a moment, to be looked through while the view goes on."""

    def __init__(self, view: View) -> None:
        self._facts = {kind: dict(view.all(kind)) for kind in KINDS}
        self.bad = dict(view.bad)
        self.hosts = {fact.record.id: hosts.show(fact, view, capacity.Taken()) for fact in view.all(Host).values()}

    def all(self, kind: type[R]) -> Mapping[str, Fact[R]]:
        return cast("Mapping[str, Fact[R]]", self._facts[kind])

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        return self.all(kind).get(key)


def count(snapshot: Snapshot, now_s: float) -> Counted:
    phases: Counter[str] = Counter()
    placed: Counter[str] = Counter()
    groups: dict[tuple[str, str, bool], list[str]] = {}
    crashing = []
    for fact in snapshot.all(Vm).values():
        sight = phase.gather(snapshot, fact)
        state = phase.state(sight)
        phases[state.phase] += 1
        placed[sight.placement.host if sight.placement else ""] += 1
        if sight.status and sight.status.crashes >= MANY_CRASHES:
            crashing.append(fact.record.name)
        if state.waiting and state.phase != "unknown":
            key = (state.waiting.what, state.waiting.who, needs_somebody(sight, state, now_s))
            groups.setdefault(key, []).append(fact.record.name)
    failover, hold = snapshot.get(Failover, Failover.at("failover")), snapshot.get(Hold, Hold.at("hold"))
    images = {fact.record.name: state_of(snapshot, fact.record) for fact in snapshot.all(Image).values()}
    return Counted(
        hosts=dict(Counter(host.state for host in snapshot.hosts.values())),
        pools=[fact.record.name for fact in snapshot.all(Pool).values()],
        images=dict(Counter(state for state, _ in images.values())),
        networks=dict(Counter("public" if fact.record.public else "private" for fact in snapshot.all(Network).values())),
        vms=dict(phases),
        waiting=[
            WaitingGroup(what=what, who=who, vms=len(names), names=names[:NAMED], needs_somebody=stuck)
            for (what, who, stuck), names in sorted(groups.items(), key=lambda group: -len(group[1]))
        ],
        silent={host.name: placed[host.id] for host in snapshot.hosts.values() if host.state == "down"},
        fenced={host.name: placed[host.id] for host in snapshot.hosts.values() if host.state == "fenced"},
        degraded=[host.name for host in snapshot.hosts.values() if host.state == "degraded"],
        unsafe={host.name: host.fence.errors for host in snapshot.hosts.values() if host.fence and host.fence.errors},
        disarmed=failover.record.reason if failover and not failover.record.armed else None,
        held=hold.record.reason if hold else "",
        failed_images={name: error for name, (state, error) in images.items() if state == "failed"},
        crashing=crashing[:NAMED],
        strays={host.name: host.stray_vms for host in snapshot.hosts.values() if host.stray_vms},
        unreadable=snapshot.bad,
    )


def needs_somebody(sight: Sight, state: State, now_s: float) -> bool:
    """It has no host, and the scheduler has said why; or its host fails; or it takes longer than anything should."""
    if state.phase == "failed" or (state.phase == "pending" and sight.placement is not None):
        return True
    since = state.waiting.since if state.waiting else None
    return since is not None and now_s - parse_timestamp(since) > LONG_S


def state_of(snapshot: Snapshot, image: Image) -> tuple[str, str]:
    """And the error."""
    if image.deleted_at:
        return "deleting", ""
    state = snapshot.get(ImageState, ImageState.at(image.id))
    return (state.record.phase, state.record.error) if state else ("uploading", "")
