"""When nothing fails any more, everything must come to rest as its owner wants it, and nothing forgotten may be left over."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sim.drivers import LOCAL, image_in
from sim.handouts import wrong_handouts
from sim.wired import wrong_networks
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Endpoint, Fence, Inventory
from ucloud.model.image import Image, ImageState
from ucloud.model.key import Key
from ucloud.model.record import Record, decode
from ucloud.model.vm import Manifest, Placement, Status, Vm

if TYPE_CHECKING:
    from sim.api import ApiNode
    from sim.cloud import Cloud
    from sim.hosts import HostNode

R = TypeVar("R", bound=Record)


def complaints(cloud: "Cloud") -> Iterator[str]:
    """What is not as it should be; nothing when all is well. People are asked last, as that takes longest."""
    left = list(wrong_records(cloud))
    yield from left or wrong_answers(cloud)


def wrong_records(cloud: "Cloud") -> Iterator[str]:
    for request in cloud.client.pending.values():
        yield f"{request.name} ({request.method} {request.path}) has no answer"
    for id in sorted(cloud.invariants.records.created):
        item = cloud.store.get(Vm.at(id))
        vm = decode(Vm, item.value)[0] if item else None
        if item is None or vm is None or vm.deleted_at:
            waits = not any(cloud.invariants.records.hosts[host.name].enabled for host in cloud.hosts)
            placement = record(cloud, Placement, Placement.at(id))
            if not (waits and placement and not placement.host):  # for somebody to remove it
                yield from left_over(cloud, id)
        else:
            yield from not_as_wanted(cloud, vm, item.mod_revision)
    yield from wrong_images(cloud)
    yield from wrong_networks(cloud)
    yield from wrong_handouts(cloud)
    for item in cloud.store.list(Fence.prefix).items:
        yield f"{item.key} is still there"
    for host in cloud.hosts:
        endpoint = record(cloud, Endpoint, Endpoint.at(host.name, "endpoint"))
        if endpoint is None or endpoint.token != host.token:
            yield f"{host.name} has not said where it is reached"
        yield from not_left(cloud, host)
        said, left = reported(cloud, host), strays(cloud, host)
        if said != left:
            yield f"{host.name} reports {said} as left there, and there is {left}"


def not_left(cloud: "Cloud", host: "HostNode") -> Iterator[str]:
    """VMs of which a host still says something, though they are not its own any more."""
    for item in cloud.store.list(f"{keys.statuses(host.name)}vm/").items:
        if cloud.store.get(Manifest.at(host.name, item.key.rpartition("/")[2])) is None:
            yield f"{item.key} is there without a manifest"


def strays(cloud: "Cloud", host: "HostNode") -> frozenset[str]:
    """VMs of which a host has something that nobody has told it of, nor it anybody."""
    known = (*cloud.store.list(keys.manifests(host.name)).items, *cloud.store.list(f"{keys.statuses(host.name)}vm/").items)
    return host.machine.hypervisor.traces() - {item.key.rpartition("/")[2] for item in known}


def reported(cloud: "Cloud", host: "HostNode") -> frozenset[str]:
    said = record(cloud, Inventory, Inventory.at(host.name, "inventory"))
    return frozenset(said.stray_vms if said else ())


def left_over(cloud: "Cloud", id: str) -> Iterator[str]:
    mended = cloud.invariants.records.once_spoiled  # what a hand wrote looks new: it is kept there, and reported
    kept = {host.name for host in cloud.hosts if Status.at(host.name, "vm", id) in mended and id in reported(cloud, host)}
    tells = {Inventory.at(host, "inventory") for host in kept}
    for item in cloud.store.list("").items:
        if (id in item.key or id.encode() in item.value) and not item.key.startswith("event/") and item.key not in tells:
            yield f"{id} is deleted, but {item.key} names it"
    for pool in (*cloud.images.pools.values(), *(host.machine.pools[LOCAL] for host in cloud.hosts)):
        if any(owner == id for owner, _ in pool.disks()):
            yield f"{id} is deleted, but its disk in {pool.name} is not"
    for host in cloud.hosts:
        if id in host.machine.hypervisor.traces() and host.name not in kept:
            yield f"{id} is deleted, but there is a trace of it on {host.name}"
        if any(id in repr([value for value in memory.values() if isinstance(value, dict)]) for memory in host.memories()):
            yield f"{id} is deleted, but the daemon of {host.name} remembers it"


def not_as_wanted(cloud: "Cloud", vm: Vm, revision: int) -> Iterator[str]:
    placement = record(cloud, Placement, Placement.at(vm.id))
    for path in (keys.unique("vm", vm.project, vm.name), keys.use("image", vm.image, vm.id)):
        owner = record(cloud, Unique, path)
        if owner is None or owner.owner != vm.id:
            yield f"{vm.id} lost {path}"
    names = [item.key for item in cloud.store.list("unique/vm/").items if vm.id.encode() in item.value]
    if len(names) > 1:
        yield f"{vm.id} has the names {', '.join(names)}"
    if placement is None:
        yield f"{vm.id} has no placement"
    elif not placement.host:
        room = [host.name for host in cloud.hosts if has_room(cloud, host, vm)]
        if room:
            yield f"{vm.id} waits ({placement.reason}) though it fits on {room[0]}"
    else:
        yield from not_on_host(cloud, vm, revision, placement)


def has_room(cloud: "Cloud", host: "HostNode", vm: Vm) -> bool:
    records = cloud.invariants.records
    wish, (cpus, memory_mib) = records.hosts[host.name], records.left(host.name)
    fits = vm.cpus <= min(host.cpus, cpus) and vm.memory_mib <= memory_mib
    return fits and wish.enabled and wish.matches(vm.host) and not records.mates_at(vm, host.name)


def wrong_images(cloud: "Cloud") -> Iterator[str]:
    published = {image for pool in cloud.images.pools.values() for image in pool.images()} | {image_in(LOCAL)}
    for item in cloud.store.list(Image.prefix).items:
        image = decode(Image, item.value)[0]
        state = record(cloud, ImageState, ImageState.at(image.id))
        if image.deleted_at:
            yield f"{image.id} is deleted, but its record is there"
        elif image.uploaded_at and (state is None or state.phase == "examining"):
            yield f"{image.id} was uploaded, but nobody has examined it"
        elif state and state.phase == "ready" and image.id not in published:
            yield f"{image.id} is ready, but its pool has nothing of it"


def wrong_answers(cloud: "Cloud") -> Iterator[str]:
    """What people see is what is there."""
    for api in cloud.apis:
        networks = api.answer("GET", "/v1/networks?limit=100")
        if not networks or {network["id"] for network in networks.body["networks"]} != set(cloud.invariants.addresses.networks):
            yield f"{api.name} does not list all networks"
        keyring = api.answer("GET", "/v1/keys?limit=100")
        if not keyring or [Key.at(key["id"]) for key in keyring.body["keys"]] != [
            i.key for i in cloud.store.list("key/").items
        ]:
            yield f"{api.name} does not list all keys"
        listed = api.answer("GET", "/v1/vms?limit=100")
        if listed is None or listed.status != 200:
            yield f"{api.name} lists nothing"
            return
        there = sorted(item.key.removeprefix(Vm.prefix) for item in cloud.store.list(Vm.prefix).items)
        if sorted(vm["id"] for vm in listed.body["vms"]) != there:
            yield f"{api.name} does not list all VMs"
        for shown in listed.body["vms"]:
            yield from wrong_phase(cloud, api, shown)


def wrong_phase(cloud: "Cloud", api: "ApiNode", shown: Mapping[str, Any]) -> Iterator[str]:
    id = shown["id"]
    if shown["phase"] == "deleting":
        return  # until somebody enables a host
    runs = any(id in host.machine.guests() for host in cloud.hosts)
    placement = record(cloud, Placement, Placement.at(id))
    waits = placement is not None and placement.waits_for != ""
    expected = "running" if runs else "stopped"
    if shown["power"] == "on" and not shown["host"]:
        expected = "pending"
    elif shown["power"] == "on" and waits:
        expected = "starting"
    if shown["phase"] != expected:
        yield f"{api.name} says that {id} is {shown['phase']}; it is {expected}"
    action = cloud.client.actions.get(id)
    if action and shown["host"]:
        answer = api.answer("GET", f"/v1/actions/{action}")
        ends = not waits or action.endswith(".stop")
        if answer is None or answer.status != 200 or (ends and answer.body["action"]["state"] == "running"):
            yield f"{api.name} says of the last action on {id}: {answer and answer.body}"


def not_on_host(cloud: "Cloud", vm: Vm, revision: int, placement: Placement) -> Iterator[str]:
    status = record(cloud, Status, Status.at(placement.host, "vm", vm.id))
    if lacks_room(cloud, vm, placement):
        yield from not_waiting(cloud, vm, status, placement)
        return
    if placement.waits_for:
        yield f"{vm.id} has what it wants, and still waits: {placement.waits_for}"
    guests = [(host.name, guest) for host in cloud.hosts for id, guest in host.machine.guests().items() if id == vm.id]
    if status is None or status.revisions.get("vm") != revision:
        yield f"{vm.id}: {placement.host} has not answered to its newest wish"
        return
    if status.error:
        yield f"{vm.id}: its status still says: {status.error}"
    ends = {how for (id, _, boots), how in cloud.invariants.ends.items() if (id, boots) == (vm.id, vm.boots)}
    if vm.power == "off" or status.phase == "off":
        if guests:
            yield f"{vm.id} is {vm.power} and {status.phase}, but it has a guest on {guests[0][0]}"
        if status.phase == "off" and vm.power == "on" and not ends & {"powered off", "power loss", "lease lost", "fence"}:
            yield f"{vm.id} is said to have powered itself off, but it ended by {sorted(ends)}"
    elif [(host, guest.epoch, guest.boots) for host, guest in guests] != [(placement.host, placement.epoch, vm.boots)]:
        yield f"{vm.id} should run boot {vm.boots} on {placement.host}, but there is {guests}"
    expected = ("stopped",) if vm.power == "off" else ("running", "off")
    if status.phase not in expected:
        yield f"{vm.id} is {vm.power}, but its status says {status.phase}"


def lacks_room(cloud: "Cloud", vm: Vm, placement: Placement) -> bool:
    """It was resized, and its host has no room for what it shall have more."""
    told, (cpus, memory_mib) = (
        cloud.invariants.records.told(placement.host, vm.id),
        cloud.invariants.records.left(placement.host),
    )
    has_cpus = next(host.cpus for host in cloud.hosts if host.name == placement.host)
    if told is None:
        return False
    lacks_cpus = vm.cpus > told.cpus and (vm.cpus > has_cpus or vm.cpus - told.cpus > cpus)
    return lacks_cpus or vm.memory_mib - told.memory_mib > max(0, memory_mib)


def not_waiting(cloud: "Cloud", vm: Vm, status: Status | None, placement: Placement) -> Iterator[str]:
    if not placement.waits_for:
        yield f"{vm.id} does not say that {placement.host} has no room for it"
    if status is None or status.phase != "stopped" or any(vm.id in host.machine.guests() for host in cloud.hosts):
        yield f"{vm.id} waits for room, and its status says {status and status.phase}"


def record(cloud: "Cloud", kind: type[R], key: str) -> R | None:
    item = cloud.store.get(key)
    return decode(kind, item.value)[0] if item else None
