"""/v1/hosts: the machines that carry VMs, how they are and how full they are."""

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from ucloud.api import capacity
from ucloud.api.body import Fields, json_body, query
from ucloud.api.page import page
from ucloud.api.records import Source, Wish, commit, commit_new, find, found
from ucloud.api.services import services
from ucloud.api.vm import MAX_MEMORY_MIB
from ucloud.base.errors import Conflict
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, unchanged
from ucloud.model.host import Alive, Host
from ucloud.model.record import Fact
from ucloud.store.view import View

routes = Blueprint("host", __name__)

MAX_CPUS = 65536


@routes.post("/v1/hosts")
def create_host() -> tuple[Response, int]:
    fields = Fields(json_body())
    name = fields.name()
    cpus = fields.integer("cpus", 1, MAX_CPUS, default=0)
    memory_mib = fields.integer("memory_mib", 1, MAX_MEMORY_MIB, default=0)
    fields.done()

    def make(id: str, source: Source) -> Wish:
        unique_name = keys.unique("host", name)
        if source.get(Unique, unique_name):
            raise Conflict(f"there is a host named {name} already", {"name": "taken"})
        host = Host(id=id, name=name, cpus=cpus, memory_mib=memory_mib, created=services().now())
        wish = Wish(requires=[absent(host.key)])
        wish.put(host)
        wish.claim(unique_name, id)
        return wish

    host = found(Host, "host", commit_new("create", "host", make).resource)
    with services().view.reading() as view:
        return jsonify(host=show(host, view, capacity.Taken())), 201


@routes.patch("/v1/hosts/<reference>")
def change_host(reference: str) -> Response:
    """What is not named stays; `labels` are replaced as a whole."""
    query()
    fields = Fields(json_body())
    wanted = {
        "enabled": fields.boolean("enabled", None),
        "labels": fields.labels(default=None),
        "cpus": fields.integer("cpus", 0, MAX_CPUS, default=None),
        "memory_mib": fields.integer("memory_mib", 0, MAX_MEMORY_MIB, default=None),
    }
    fields.done()
    changes = {name: value for name, value in wanted.items() if value is not None}
    id = find("host", reference)

    def make() -> Wish:
        host = found(Host, "host", id)
        changed = msgspec.structs.replace(host.record, **changes)
        wish = Wish(requires=[unchanged(host)], revision=host.revision)
        if changed != host.record:
            wish.put(changed, host.unknown)
        return wish

    host = found(Host, "host", commit("set", id, make).resource)
    with services().view.reading() as view:
        return jsonify(host=show(host, view, capacity.taken(view).get(id, capacity.Taken())))


@routes.get("/v1/hosts")
def list_hosts() -> Response:
    parameters = query("limit", "cursor", "name")
    name = parameters.get("name")
    with services().view.reading() as view:
        facts = [fact for fact in view.all(Host).values() if name in (None, fact.record.name)]
        taken = capacity.taken(view)
        shown = page("hosts", facts, lambda fact: show(fact, view, taken.get(fact.record.id, capacity.Taken())), parameters)
        return jsonify(shown)


@routes.get("/v1/hosts/<reference>")
def get_host(reference: str) -> Response:
    query()
    host = found(Host, "host", reference)
    with services().view.reading() as view:
        return jsonify(host=show(host, view, capacity.taken(view).get(host.record.id, capacity.Taken())))


def show(fact: Fact[Host], view: View, taken: capacity.Taken) -> dict[str, Any]:
    """How it is and how full it is come from the view, what the operator wants of it from `fact`."""
    host = fact.record
    inventory = capacity.inventory_of(view, host.id)
    room = capacity.total(host, inventory) or capacity.Room(0, 0)
    is_up = inventory is not None and view.get(Alive, Alive.at(host.id)) is not None
    return {
        "id": host.id,
        "name": host.name,
        "state": "down" if not is_up else "up" if host.enabled else "disabled",
        "enabled": host.enabled,
        "cpus": room.cpus,
        "memory_mib": room.memory_mib,
        "cpus_used": taken.cpus,
        "memory_used_mib": taken.memory_mib,
        "vms": taken.vms,
        "hypervisor": inventory.hypervisor if inventory else "",
        "accel": inventory.accel if inventory else "",
        "version": inventory.version if inventory else "",
        "stray_vms": list(inventory.stray_vms) if inventory else [],
        "labels": host.labels,
        "created": host.created,
    }
