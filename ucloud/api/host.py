"""/v1/hosts: the machines that carry VMs, how they are and how full they are."""

from typing import Annotated, Literal

from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api import capacity
from ucloud.api.body import given
from ucloud.api.describe import describe, tagged
from ucloud.api.fields import Id, Labels, Name, Timestamp
from ucloud.api.page import LabelledQuery, page
from ucloud.api.patch import patch
from ucloud.api.records import Source, Wish, commit, commit_new, find, found, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, as_seen
from ucloud.model.host import Alive, Fence, Host, Inventory
from ucloud.model.record import Fact
from ucloud.model.size import Size
from ucloud.store.view import View

routes = Blueprint("host", __name__)

AgreedCpus = Annotated[int, Meta(ge=0, le=65536, description="how many to use at most; 0: all that it has")]
AgreedMemory = Annotated[int, Meta(ge=0, le=1 << 30, description="how much to use at most; 0: all that it has")]


class HostCreate(Struct, frozen=True):
    name: Name
    cpus: AgreedCpus = 0
    memory_mib: AgreedMemory = 0


class HostPatch(Struct, frozen=True):
    name: Name | UnsetType = UNSET
    enabled: Annotated[bool | UnsetType, Meta(description="whether it gets new VMs")] = UNSET
    labels: Annotated[Labels | UnsetType, Meta(description="all of them: those that it has are replaced")] = UNSET
    cpus: AgreedCpus | UnsetType = UNSET
    memory_mib: AgreedMemory | UnsetType = UNSET


class FenceShown(Struct, frozen=True, kw_only=True):
    """The host was declared dead."""

    number: int
    phase: Literal["fencing", "fenced"]
    since: Timestamp
    reason: str
    proofs: Annotated[dict[str, str], Meta(description="pool: why nothing of that host writes to it any more")]
    errors: Annotated[dict[str, str], Meta(description="pool: why that is not known")]


class HostFence(Struct, frozen=True):
    confirm_off: Annotated[bool, Meta(description="your word that the machine is switched off, and does nothing any more")]


class HostShown(Struct, frozen=True, kw_only=True):
    """A host: what may be used of it, and what is."""

    id: Id
    name: str
    state: Literal["up", "degraded", "down", "fenced", "draining", "disabled"]
    enabled: bool
    cpus: Annotated[int, Meta(description="0 while it is not known")]
    memory_mib: int
    cpus_used: int
    memory_used_mib: int
    vms: int
    hypervisor: str
    accel: str
    version: str
    stray_vms: Annotated[list[str], Meta(description="ids of VMs of which it has traces though it shall not have them")]
    labels: dict[str, str]
    fence: FenceShown | None
    confirmed_off: Annotated[bool, Meta(description="somebody has said that its machine is switched off")]
    created: Timestamp


class HostAnswer(Struct, frozen=True):
    host: HostShown


class HostPage(Struct, frozen=True):
    hosts: list[HostShown]
    next_cursor: str | None


@routes.post("/v1/hosts")
@describe("Add a host", body=HostCreate, answer=HostAnswer, status=201, errors=(Conflict,))
def create_host(body: HostCreate) -> HostAnswer:
    def make(id: str, source: Source) -> Wish:
        return new_host(
            Host(id=id, name=body.name, cpus=body.cpus, memory_mib=body.memory_mib, created=services().now()), source
        )

    host = found(Host, "host", commit_new("create", "host", make).resource)
    with services().view.reading() as view:
        return HostAnswer(show(host, view, capacity.Taken()))


def new_host(host: Host, source: Source) -> Wish:
    """Raises Conflict where its name is taken."""
    refuse_taken(host.name, source)
    wish = Wish(requires=[absent(host.key)])
    wish.put(host)
    wish.claim(keys.unique("host", host.name), host.id)
    return wish


def refuse_taken(name: str, source: Source) -> None:
    if source.get(Unique, keys.unique("host", name)):
        raise Conflict(f"there is a host named {name} already", {"name": "taken"})


@routes.get("/v1/hosts")
@describe("List hosts", query=LabelledQuery, answer=HostPage)
def list_hosts(query: LabelledQuery) -> HostPage:
    with services().view.reading() as view:
        taken = capacity.taken(view)

        def shown(fact: Fact[Host]) -> HostShown:
            return show(fact, view, taken.get(fact.record.id, capacity.Taken()))

        return HostPage(*page(Host, view.all(Host), shown, query))


@routes.get("/v1/hosts/<reference>")
@describe("Show a host", answer=HostAnswer, tagged=True)
def get_host(reference: str) -> Response:
    return _answer(found(Host, "host", reference))


@routes.patch("/v1/hosts/<reference>")
@describe("Change a host", body=HostPatch, answer=HostAnswer, tagged=True, if_match=True, errors=(Conflict,))
def patch_host(reference: str, body: HostPatch) -> Response:
    """What is not named stays."""
    id = find("host", reference)
    outcome = commit("set", id, lambda: patch(found(Host, "host", id), given(body), "host"))
    return _answer(found(Host, "host", outcome.resource))


@routes.post("/v1/hosts/<reference>/actions/fence")
@describe("Confirm that a host is switched off", body=HostFence, answer=HostAnswer, tagged=True, errors=(Conflict,))
def fence_host(reference: str, body: HostFence) -> Response:
    """For a machine that is surely off: its VMs with disks in shared pools are then restarted elsewhere, whatever fence those
    pools have. If it is not off after all, two guests may write to one disk."""
    if not body.confirm_off:
        raise Invalid("confirm_off: must be true: only somebody who knows that the machine is switched off may say so")
    id = find("host", reference)

    def confirm() -> Wish:
        host, alive = found(Host, "host", id), get(Alive, Alive.at(id))
        inventory, fence = get(Inventory, Inventory.at(id, "inventory")), get(Fence, keys.fence(id))
        if alive:
            raise Conflict(f"{host.record.name} is alive: switch it off first, and ask again when it is shown as down")
        boot = last_boot(inventory.record if inventory else None, fence.record if fence else None)
        if not boot:
            raise Conflict(f"{host.record.name} has never run: there is nothing to fence")
        wish = patch(host, {"off": boot}, "host")
        if wish.puts:
            wish.requires += [absent(Alive.at(id)), as_seen(keys.fence(id), fence)]
        return wish

    return _answer(found(Host, "host", commit("fence", id, confirm).resource))


def _answer(host: Fact[Host]) -> Response:
    with services().view.reading() as view:
        taken = capacity.taken(view).get(host.record.id, capacity.Taken())
        return tagged(HostAnswer(show(host, view, taken)), host)


def show(fact: Fact[Host], view: View, taken: capacity.Taken) -> HostShown:
    """How it is and how full it is come from the view, what the operator wants of it from `fact`."""
    host = fact.record
    inventory = capacity.inventory_of(view, host.id)
    room = capacity.total(host, inventory) or Size(0, 0)
    alive, fence = view.get(Alive, Alive.at(host.id)), view.get(Fence, keys.fence(host.id))
    return HostShown(
        id=host.id,
        name=host.name,
        state=state_of(host, inventory, alive, fence),
        enabled=host.enabled,
        cpus=room.cpus,
        memory_mib=room.memory_mib,
        cpus_used=taken.cpus,
        memory_used_mib=taken.memory_mib,
        vms=taken.vms,
        hypervisor=inventory.hypervisor if inventory else "",
        accel=inventory.accel if inventory else "",
        version=inventory.version if inventory else "",
        stray_vms=list(inventory.stray_vms) if inventory else [],
        labels=host.labels,
        fence=show_fence(fence.record if fence else None),
        confirmed_off=not alive and host.is_off(last_boot(inventory, fence.record if fence else None)),
        created=host.created,
    )


def state_of(
    host: Host, inventory: Inventory | None, alive: Fact[Alive] | None, fence: Fact[Fence] | None
) -> Literal["up", "degraded", "down", "fenced", "disabled"]:
    """The gravest."""
    if fence:
        return "fenced"
    if not alive or not inventory:
        return "down"
    if alive.record.degraded:
        return "degraded"
    return "up" if host.enabled else "disabled"


def last_boot(inventory: Inventory | None, fence: Fence | None) -> str:
    """Which boot of its machine somebody means who says that it is switched off: the one that was declared dead, or else the
    last one that was heard. "": it has never run."""
    return fence.boot if fence else inventory.boot if inventory else ""


def show_fence(fence: Fence | None) -> FenceShown | None:
    return FenceShown(**{name: getattr(fence, name) for name in FenceShown.__struct_fields__}) if fence else None
