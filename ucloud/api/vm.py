"""/v1/vms: what people want of their VMs. Handlers only write that down; the scheduler and the hosts make it so."""

from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from ucloud.api import action, capacity, event, key, network, phase, userdata, vmlog
from ucloud.api.action import ActionShown
from ucloud.api.address import add_port
from ucloud.api.body import given
from ucloud.api.describe import Gone, describe, either, tagged
from ucloud.api.fields import (
    Base64,
    Cpus,
    DiskMib,
    HostWish,
    Keys,
    Labels,
    MemoryMib,
    Metadata,
    Name,
    Networks,
    Protection,
    Reference,
    Spread,
    UserText,
    VmName,
    rule_of,
    ruled,
)
from ucloud.api.image import ready_image
from ucloud.api.page import LabelledQuery, page
from ucloud.api.patch import heed_if_match, patch, refuse_protected
from ucloud.api.records import (
    PROJECT,
    Outcome,
    ShowSource,
    Source,
    ViewSource,
    Wish,
    commit,
    commit_new,
    find,
    found,
    fresh,
    get,
    missing,
)
from ucloud.api.services import services
from ucloud.api.vmshow import VmShown, show
from ucloud.base.errors import Conflict, Invalid, NoCapacity, NotFound, Temporary
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, unchanged
from ucloud.model.host import Host
from ucloud.model.record import Fact
from ucloud.model.size import Size
from ucloud.model.vm import Ha, Placement, Priority, Vm

routes = Blueprint("vm", __name__)

HaWish = Annotated[Ha, Meta(description="when its host dies: restart it elsewhere, or never, but there when it is back")]
PriorityWish = Annotated[Priority, Meta(description="whose turn it is first when many VMs need a host")]
FOR_CLOUD_INIT = "what its guest does when it first starts: a script, or whatever else cloud-init takes"


class VmCreate(Struct, frozen=True):
    name: VmName
    image: Annotated[Reference, Meta(description="what its disk is cloned from")]
    cpus: Annotated[Cpus, Meta(description="virtual cores")] = 1
    memory_mib: MemoryMib = 512
    disk_mib: Annotated[DiskMib | UnsetType, Meta(description="by default the image's size")] = UNSET
    host: Annotated[HostWish | UnsetType, Meta(description="where alone it may run; by default anywhere")] = UNSET
    spread: Annotated[Spread | UnsetType, Meta(description="VMs of a group share no host, or no value of its label")] = UNSET
    ha: HaWish = "restart"
    priority: PriorityWish = "normal"
    pool: Annotated[Name | UnsetType, Meta(description="where its disk lies: as yet only that of the image")] = UNSET
    networks: Annotated[
        Networks | UnsetType, Meta(description="by default the network `default`, which is made when it is first needed")
    ] = UNSET
    keys: Annotated[Keys | UnsetType, Meta(description="who may log in; by default the default key, if there is one")] = UNSET
    user_data: Annotated[UserText | UnsetType, Meta(description=FOR_CLOUD_INIT)] = UNSET
    user_data_base64: Annotated[Base64 | UnsetType, Meta(description="the same, where it is no text")] = UNSET
    metadata: Annotated[Metadata, Meta(description="what its guest shall know")] = {}
    labels: Labels = {}
    delete_protection: Protection = False


class VmPatch(Struct, frozen=True):
    name: VmName | UnsetType = UNSET
    labels: Annotated[Labels | UnsetType, Meta(description="all of them: those that it has are replaced")] = UNSET
    keys: Annotated[Keys | UnsetType, Meta(description="all of them")] = UNSET
    user_data: Annotated[
        UserText | None | UnsetType, ruled(f"{rule_of(UserText)}, or null for none"), Meta(description=FOR_CLOUD_INIT)
    ] = UNSET
    user_data_base64: Annotated[Base64 | UnsetType, Meta(description="the same, where it is no text")] = UNSET
    metadata: Annotated[Metadata | UnsetType, Meta(description="all of it")] = UNSET
    ha: HaWish | UnsetType = UNSET
    priority: PriorityWish | UnsetType = UNSET
    delete_protection: Protection | UnsetType = UNSET


class VmAnswer(Struct, frozen=True):
    vm: VmShown


class VmAccepted(Struct, frozen=True):
    vm: Annotated[Any, either("VmShown", "Gone")]
    action: ActionShown


class VmPage(Struct, frozen=True):
    vms: list[VmShown]
    next_cursor: str | None


@routes.post("/v1/vms")
@describe("Create a VM", body=VmCreate, answer=VmAccepted, status=202, errors=(Conflict, NoCapacity))
def create_vm(body: VmCreate) -> VmAccepted:
    """It starts as soon as a host has room for it. 507 at once if no host is large enough for it."""
    return accepted(commit_new("create", "vm", lambda id, source: _new_vm(id, body, source)))


def _host_wish(reference: str | UnsetType) -> str:
    """What `Host.matches` understands, of a host's name or id, or of a label KEY=VALUE."""
    if reference is UNSET:
        return ""
    if "=" in reference:
        return reference
    try:
        return found(Host, "host", reference).record.id
    except NotFound as error:
        raise Invalid(f"host: {error.message}", {"host": "unknown"}) from error


def _new_vm(id: str, wanted: VmCreate, source: Source) -> Wish:
    """Name, image and record stand or fall together: one transaction."""
    unique_name = keys.unique("vm", PROJECT, wanted.name)
    if source.get(Unique, unique_name):
        raise Conflict(f"there is a VM named {wanted.name} already", {"name": "taken"})
    image, size_mib = ready_image(wanted.image, source)
    if wanted.pool not in (UNSET, image.record.pool):
        why = f"must be {image.record.pool}, where its image lies"
        raise Invalid(f"pool: {why}", {"pool": why})
    disk_mib = size_mib if wanted.disk_mib is UNSET else wanted.disk_mib
    if disk_mib < size_mib:
        raise Invalid(
            f"disk_mib: the image {image.record.name} needs at least {size_mib}", {"disk_mib": f"must be at least {size_mib}"}
        )
    host = _host_wish(wanted.host)
    capacity.refuse_too_large(Size(wanted.cpus, wanted.memory_mib), host)
    wish = Wish()
    networks = network.wanted(wanted.networks, id, wish, source)
    keyed = key.wanted(wanted.keys, wish, source)
    data = userdata.read(wanted.user_data, wanted.user_data_base64) or b""
    vm = Vm(
        id=id,
        name=wanted.name,
        project=PROJECT,
        image=image.record.id,
        pool=image.record.pool,
        cpus=wanted.cpus,
        memory_mib=wanted.memory_mib,
        disk_mib=disk_mib,
        host=host,
        spread="" if wanted.spread is UNSET else wanted.spread,
        ha=wanted.ha,
        priority=wanted.priority,
        labels=wanted.labels,
        delete_protection=wanted.delete_protection,
        ports=tuple(add_port(wish, id, net, source) for net in networks),
        keys=tuple(fact.record.id for fact in keyed),
        metadata=wanted.metadata,
        user_data=userdata.digest(data),
        user_data_bytes=len(data),
        created=services().now(),
    )
    wish.put(vm)
    wish.requires += [absent(vm.key), unchanged(image)]
    wish.claim(unique_name, vm.id)
    wish.claim(keys.use("image", image.record.id, vm.id), vm.id)
    key.claim(wish, id, keyed)
    userdata.claim(wish, id, data)
    return wish


@routes.get("/v1/vms")
@describe("List VMs", query=LabelledQuery, answer=VmPage)
def list_vms(query: LabelledQuery) -> VmPage:
    with services().view.reading() as view:
        return VmPage(*page(Vm, view.all(Vm), lambda fact: show(fact, view), query))


@routes.get("/v1/vms/<reference>")
@describe("Show a VM", answer=VmAnswer, tagged=True)
def get_vm(reference: str) -> Response:
    id = find("vm", reference, PROJECT)
    source = ShowSource(*phase.keys_of(id, _seen_host(id)))
    vm = source.get(Vm, Vm.at(id))
    if vm is None:
        raise missing("vm", reference)
    return tagged(VmAnswer(_with_since(show(vm, source))), vm)


def _seen_host(id: str) -> str:
    """Where it was placed a moment ago."""
    try:
        placement = ViewSource().get(Placement, Placement.at(id))
    except Temporary:
        return ""
    return placement.record.host if placement else ""


def _with_since(shown: VmShown) -> VmShown:
    """Since when its host is silent stands in no record; the events tell it."""
    if shown.phase != "unknown" or shown.waiting_for is None or shown.waiting_for.since:
        return shown
    since = event.silent_since(event.told_by(services().store, [event.SCHEDULER]), shown.host_id)
    return replace(shown, waiting_for=replace(shown.waiting_for, since=since))


@routes.patch("/v1/vms/<reference>")
@describe("Change a VM", body=VmPatch, answer=VmAnswer, tagged=True, if_match=True, errors=(Conflict,))
def patch_vm(reference: str, body: VmPatch) -> Response:
    """What is not named stays."""
    id = find("vm", reference, PROJECT)

    data = userdata.read(body.user_data, body.user_data_base64)
    changes = {field: value for field, value in given(body).items() if field not in ("user_data", "user_data_base64")}

    def make() -> Wish:
        vm = living(vm_of(id))
        if data is not UNSET:
            changes.update(user_data=userdata.digest(data), user_data_bytes=len(data))
        keyed = [] if body.keys is UNSET else key.named(body.keys, fresh())
        if body.keys is not UNSET:
            changes["keys"] = tuple(fact.record.id for fact in keyed)
        wish = patch(vm, changes, "vm", PROJECT)
        if wish.puts and body.keys is not UNSET:
            key.claim(wish, id, keyed, vm.record.keys)
        if wish.puts and data is not UNSET:
            userdata.claim(wish, id, data, vm.record.user_data)
        return wish

    vm = vm_of(commit("set", id, make).resource)
    return tagged(VmAnswer(show(vm, fresh())), vm)


@routes.delete("/v1/vms/<reference>")
@describe("Delete a VM", answer=VmAccepted, status=202, if_match=True, errors=(Conflict,))
def delete_vm(reference: str) -> VmAccepted:
    """Its disk goes with it. Refused while it is protected."""
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm = vm_of(id)
        if vm.record.deleted_at:
            return Wish(revision=vm.revision)
        heed_if_match(vm)
        refuse_protected("vm", vm.record)
        return change(vm, deleted_at=services().now())

    return accepted(commit("delete", id, make))


@routes.get("/v1/vms/<reference>/log")
@describe("Show what a VM said on its serial line", query=vmlog.LogQuery, answer="text/plain")
def get_log(reference: str, query: vmlog.LogQuery) -> Response:
    """Byte by byte as it came, of all its boots. X-Log-Truncated: older parts are gone."""
    id = find("vm", reference, PROJECT)
    return vmlog.answer(lambda: phase.gather(fresh(), vm_of(id)), query)


def change(vm: Fact[Vm], **changes: Any) -> Wish:
    wish = Wish(requires=[unchanged(vm)])
    wish.put(msgspec.structs.replace(vm.record, **changes), vm.unknown)
    return wish


def vm_of(reference: str) -> Fact[Vm]:
    """As it is in the store now. Raises NotFound."""
    return found(Vm, "vm", reference, PROJECT)


def living(vm: Fact[Vm]) -> Fact[Vm]:
    """Raises Conflict for one that is being deleted."""
    if vm.record.deleted_at:
        raise Conflict("the VM is being deleted")
    return vm


def accepted(outcome: Outcome) -> VmAccepted:
    """vm: only its id where it is gone already. What others have made of it so far may be a little old; but whether it has a
    host must be known of what is done at once only where it has none."""
    key = Vm.at(outcome.resource)
    vm = get(Vm, key)
    known: dict[str, Fact[Any] | None] = {key: vm}
    if outcome.verb in action.DONE_WITHOUT_HOST:
        known[Placement.at(outcome.resource)] = get(Placement, Placement.at(outcome.resource))
    source = ViewSource(known)
    return VmAccepted(show(vm, source) if vm else Gone(outcome.resource), action.show(outcome, source))
