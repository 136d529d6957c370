"""When nothing fails any more, everything must come to rest as its owner wants it, and nothing forgotten may be left over."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from ucloud.model import keys
from ucloud.model.host import Host
from ucloud.model.record import Record, decode
from ucloud.model.vm import Placement, Status, Vm

if TYPE_CHECKING:
    from sim.cloud import Cloud

R = TypeVar("R", bound=Record)


def complaints(cloud: "Cloud") -> Iterator[str]:
    """What is not as it should be; nothing when all is well."""
    for id in sorted(cloud.invariants.created):
        item = cloud.store.get(Vm.at(id))
        vm = decode(Vm, item.value)[0] if item else None
        if item is None or vm is None or vm.deleted_at:
            yield from left_over(cloud, id)
        else:
            yield from not_as_wanted(cloud, vm, item.mod_revision)


def left_over(cloud: "Cloud", id: str) -> Iterator[str]:
    for item in cloud.store.list("").items:
        if id in item.key or id.encode() in item.value:
            yield f"{id} is deleted, but {item.key} names it"
    for host in cloud.hosts:
        for what in host.machine.names(id):
            yield f"{id} is deleted, but there is {what}"
        if host.loop and id in repr([value for value in vars(host.loop).values() if isinstance(value, dict)]):
            yield f"{id} is deleted, but the daemon of {host.name} remembers it"


def not_as_wanted(cloud: "Cloud", vm: Vm, revision: int) -> Iterator[str]:
    placement = record(cloud, Placement, Placement.at(vm.id))
    for path in (keys.unique("vm", vm.project, vm.name), keys.use("image", vm.image, vm.id)):
        if cloud.store.get(path) is None:
            yield f"{vm.id} lost {path}"
    if placement is None:
        yield f"{vm.id} has no placement"
    elif not placement.host:
        room = [host.name for host in cloud.hosts if has_room(cloud, host.name, vm)]
        if room:
            yield f"{vm.id} waits ({placement.reason}) though it fits on {room[0]}"
    else:
        yield from not_on_host(cloud, vm, revision, placement)


def has_room(cloud: "Cloud", host: str, vm: Vm) -> bool:
    wish = record(cloud, Host, Host.at(host))
    return wish is not None and wish.enabled and vm.cpus <= 4 and cloud.invariants.free_mib(host) >= vm.memory_mib


def not_on_host(cloud: "Cloud", vm: Vm, revision: int, placement: Placement) -> Iterator[str]:
    status = record(cloud, Status, Status.at(placement.host, "vm", vm.id))
    guests = [(host.name, guest) for host in cloud.hosts for id, guest in host.machine.guests().items() if id == vm.id]
    if status is None or status.revisions.get("vm") != revision:
        yield f"{vm.id}: {placement.host} has not answered to its newest wish"
        return
    if status.error:
        yield f"{vm.id}: its status still says: {status.error}"
    end = cloud.invariants.ends.get((vm.id, placement.epoch, vm.boots))
    if vm.power == "off" or status.phase == "off":
        if guests:
            yield f"{vm.id} is {vm.power} and {status.phase}, but it has a guest on {guests[0][0]}"
        if status.phase == "off" and vm.power == "on" and end not in ("powered off", "power loss"):
            yield f"{vm.id} is said to have powered itself off, but it ended by {end}"
    elif [(host, guest.epoch, guest.boots) for host, guest in guests] != [(placement.host, placement.epoch, vm.boots)]:
        yield f"{vm.id} should run boot {vm.boots} on {placement.host}, but there is {guests}"
    expected = ("stopped",) if vm.power == "off" else ("running", "off")
    if status.phase not in expected:
        yield f"{vm.id} is {vm.power}, but its status says {status.phase}"


def record(cloud: "Cloud", kind: type[R], key: str) -> R | None:
    item = cloud.store.get(key)
    return decode(kind, item.value)[0] if item else None
