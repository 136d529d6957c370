"""/v1/vms: what people want of their VMs. Handlers only write that down; the scheduler and the hosts make it so."""

from collections.abc import Callable
from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from ucloud.api import action, capacity, phase, vmlog
from ucloud.api.body import Fields, are_labels, json_body, query
from ucloud.api.image import ready_image
from ucloud.api.page import page
from ucloud.api.records import PROJECT, Outcome, Source, ViewSource, Wish, commit, commit_new, find, found, fresh, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.base.ids import is_id, is_name
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, unchanged
from ucloud.model.host import Host
from ucloud.model.image import Image
from ucloud.model.record import Fact
from ucloud.model.vm import Vm

routes = Blueprint("vm", __name__)

MAX_CPUS = 1024
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 16, 16 * 1024 * 1024
MAX_DISK_MIB = 64 * 1024 * 1024
START_FIRST = "the VM is stopped: start it instead"


class Wanted(msgspec.Struct, frozen=True):
    """A checked request for a VM. disk_mib: 0 for the image's size."""

    name: str
    image: str
    cpus: int
    memory_mib: int
    disk_mib: int
    host: str
    spread: str
    labels: dict[str, str]


@routes.post("/v1/vms")
def create_vm() -> tuple[Response, int]:
    wanted = _wanted()
    return _accepted(commit_new("create", "vm", lambda id, source: _new_vm(id, wanted, source)))


def _wanted() -> Wanted:
    fields = Fields(json_body())
    wanted = Wanted(
        name=fields.name(),
        image=fields.text("image"),
        cpus=fields.integer("cpus", 1, MAX_CPUS, default=1),
        memory_mib=fields.integer("memory_mib", MIN_MEMORY_MIB, MAX_MEMORY_MIB, default=512),
        disk_mib=fields.integer("disk_mib", 1, MAX_DISK_MIB, default=0),
        host=fields.text("host", default=""),
        spread=fields.text("spread", default=""),
        labels=fields.labels(),
    )
    if wanted.spread and not is_spread(wanted.spread):
        fields.refuse("spread", "must be GROUP or GROUP@LABEL; a group is named like a VM")
    fields.done()
    return wanted


def is_spread(text: str) -> bool:
    group, at, label = text.partition("@")
    return is_name(group) and (not at or are_labels({label: ""}))


def _host_wish(reference: str) -> str:
    """What `Host.matches` understands, of a host's name or id, or of a label KEY=VALUE."""
    label, equals, value = reference.partition("=")
    if equals and not are_labels({label: value}):
        raise Invalid("host: must be a host, or a label KEY=VALUE", {"host": "must be a host, or a label KEY=VALUE"})
    if equals or not reference:
        return reference
    try:
        return found(Host, "host", reference).record.id
    except NotFound as error:
        raise Invalid(f"host: {error.message}", {"host": "unknown"}) from error


def _new_vm(id: str, wanted: Wanted, source: Source) -> Wish:
    """Name, image and record stand or fall together: one transaction."""
    unique_name = keys.unique("vm", PROJECT, wanted.name)
    if source.get(Unique, unique_name):
        raise Conflict(f"there is a VM named {wanted.name} already", {"name": "taken"})
    image, size_mib = ready_image(wanted.image, source)
    if wanted.disk_mib and wanted.disk_mib < size_mib:
        raise Invalid(
            f"disk_mib: the image {image.record.name} needs at least {size_mib}", {"disk_mib": f"must be at least {size_mib}"}
        )
    host = _host_wish(wanted.host)
    capacity.refuse_too_large(wanted.cpus, wanted.memory_mib, host)
    vm = Vm(
        id=id,
        name=wanted.name,
        project=PROJECT,
        image=image.record.id,
        pool=image.record.pool,
        cpus=wanted.cpus,
        memory_mib=wanted.memory_mib,
        disk_mib=wanted.disk_mib or size_mib,
        host=host,
        spread=wanted.spread,
        labels=wanted.labels,
        created=services().now(),
    )
    wish = Wish()
    wish.put(vm)
    wish.requires += [absent(vm.key), unchanged(image)]
    wish.claim(unique_name, vm.id)
    wish.claim(keys.use("image", image.record.id, vm.id), vm.id)
    return wish


@routes.get("/v1/vms")
def list_vms() -> Response:
    parameters = query("limit", "cursor", "name", "label")
    name, (key, value) = parameters.get("name"), _label(parameters.get("label"))
    with services().view.reading() as view:
        facts = [
            fact
            for fact in view.all(Vm).values()
            if name in (None, fact.record.name)
            and (not key or (key in fact.record.labels and value in (None, fact.record.labels[key])))
        ]
        return jsonify(page("vms", facts, lambda fact: show(fact, view), parameters))


def _label(text: str | None) -> tuple[str, str | None]:
    """`key` or `key=value`."""
    key, separator, value = (text or "").partition("=")
    if text is not None and not are_labels({key: value}):
        raise Invalid("label: must be KEY or KEY=VALUE", {"label": "must be KEY or KEY=VALUE"})
    return key, value if separator else None


@routes.get("/v1/vms/<reference>")
def get_vm(reference: str) -> Response:
    query()
    return jsonify(vm=show(_found(reference), fresh()))


@routes.delete("/v1/vms/<reference>")
def delete_vm(reference: str) -> tuple[Response, int]:
    query()
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm = _found(id)
        if vm.record.deleted_at:
            return Wish(revision=vm.revision)
        return _change(vm, deleted_at=services().now())

    return _accepted(commit("delete", id, make))


@routes.post("/v1/vms/<reference>/actions/<verb>")
def act_on_vm(reference: str, verb: str) -> tuple[Response, int]:
    query()
    change = CHANGES.get(verb)
    if change is None:
        raise Invalid(f"verb: must be one of {', '.join(CHANGES)}", {"verb": "unknown"})
    fields = Fields(json_body())
    force = fields.boolean("force", False) if verb == "stop" else False
    fields.done()
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm = _found(id)
        if vm.record.deleted_at:
            raise Conflict("the VM is being deleted")
        changed = change(vm.record, _is_off(vm), force)
        return _change(vm, **changed) if changed else Wish(revision=vm.revision)

    return _accepted(commit(verb, id, make))


def _start(vm: Vm, is_off: bool, _: bool) -> dict[str, Any]:
    if vm.power == "on" and not is_off:
        return {}
    return {"power": "on", "boots": vm.boots + 1, "hard": False}


def _stop(vm: Vm, _: bool, force: bool) -> dict[str, Any]:
    if vm.power == "off" and (vm.hard or not force):
        return {}
    return {"power": "off", "hard": force}


def _reboot(vm: Vm, is_off: bool, _: bool) -> dict[str, Any]:
    if vm.power == "off" or is_off:
        raise Conflict(START_FIRST)
    return {"boots": vm.boots + 1, "hard": False}


def _reset(vm: Vm, is_off: bool, _: bool) -> dict[str, Any]:
    return {**_reboot(vm, is_off, False), "hard": True}


CHANGES: dict[str, Callable[[Vm, bool, bool], dict[str, Any]]] = {
    "start": _start,
    "stop": _stop,
    "reboot": _reboot,
    "reset": _reset,
}


def _is_off(vm: Fact[Vm]) -> bool:
    """The guest powered itself off, and nobody told it to start since."""
    status = phase.gather(fresh(), vm).status
    return status is not None and status.phase == "off" and status.boots >= vm.record.boots


def _change(vm: Fact[Vm], **changes: Any) -> Wish:
    wish = Wish(requires=[unchanged(vm)])
    wish.put(msgspec.structs.replace(vm.record, **changes), vm.unknown)
    return wish


@routes.get("/v1/vms/<reference>/log")
def get_log(reference: str) -> Response:
    query()
    return vmlog.fetch(phase.gather(fresh(), _found(reference)))


def _found(reference: str) -> Fact[Vm]:
    return found(Vm, "vm", reference, PROJECT)


def _accepted(outcome: Outcome) -> tuple[Response, int]:
    """vm: only its id where it is gone already. What others have made of it so far may be a little old."""
    key = Vm.at(outcome.resource)
    vm = get(Vm, key)
    source = ViewSource({key: vm})
    return jsonify(vm=show(vm, source) if vm else {"id": outcome.resource}, action=action.show(outcome, source)), 202


def _name_of_host(source: Source, wish: str) -> str:
    host = source.get(Host, Host.at(wish)) if is_id(wish) else None
    return host.record.name if host else wish


def show(fact: Fact[Vm], source: Source) -> dict[str, Any]:
    vm, sight = fact.record, phase.gather(source, fact)
    state, placement = phase.state(sight), sight.placement
    image = source.get(Image, Image.at(vm.image))
    return {
        "id": vm.id,
        "name": vm.name,
        "project": vm.project,
        "phase": state.phase,
        "host": sight.host_name,
        "host_id": placement.host if placement else "",
        "epoch": placement.epoch if placement else 0,
        "boots": vm.boots,
        "cpus": vm.cpus,
        "memory_mib": vm.memory_mib,
        "disk_mib": vm.disk_mib,
        "addresses": [],
        "ports": [],
        "image": image.record.name if image else vm.image,
        "image_id": vm.image,
        "pool": vm.pool,
        "power": vm.power,
        "wanted_host": _name_of_host(source, vm.host),
        "spread": vm.spread,
        "labels": vm.labels,
        "created": vm.created,
        "deleted_at": vm.deleted_at or None,
        "reason": state.reason,
        "waiting_for": state.waiting._asdict() if state.waiting else None,
        "error": sight.status.error if sight.status else "",
        "crashes": sight.status.crashes if sight.status else 0,
    }
