"""/v1/vms/…/actions/: attach, detach. They change the VM's record; its host makes it so, whether the VM runs or not."""

from typing import Annotated

import msgspec
from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api import network
from ucloud.api.address import add_port
from ucloud.api.describe import describe
from ucloud.api.fields import MAX_PORTS, Allow, Reference
from ucloud.api.records import PROJECT, Wish, commit, find, fresh, get
from ucloud.api.vm import VmAccepted, accepted, change, living, vm_of
from ucloud.base.errors import Conflict, Invalid, NoCapacity
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import as_seen, unchanged
from ucloud.model.network import Network, Port
from ucloud.model.vm import Vm

routes = Blueprint("port", __name__)


class VmAttach(Struct, frozen=True):
    network: Reference
    allow: Annotated[Allow, Meta(description="what its guest may do there: advertise routes (ra), answer DHCP (dhcp)")] = []


class VmDetach(Struct, frozen=True):
    network: Reference


@routes.post("/v1/vms/<reference>/actions/attach")
@describe("Attach a VM to a network", body=VmAttach, answer=VmAccepted, status=202, errors=(Conflict, NoCapacity))
def attach_vm(reference: str, body: VmAttach) -> VmAccepted:
    """It need not be stopped: its guest finds a new interface."""
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm, net = living(vm_of(id)), network.named(body.network, "network", fresh())
        _refuse(vm.record, net.record, body)
        wish = Wish(requires=[unchanged(vm), unchanged(net)])
        port = add_port(wish, id, net.record, fresh(), tuple(body.allow))
        wish.put(msgspec.structs.replace(vm.record, ports=(*vm.record.ports, port)), vm.unknown)
        return wish

    return accepted(commit("attach", id, make))


def _refuse(vm: Vm, wanted: Network, body: VmAttach) -> None:
    """Raises Invalid, Conflict."""
    if body.allow and wanted.public:
        raise Invalid("allow: only in a private network", {"allow": "only in a private network"})
    if any(port.network == wanted.id for port in vm.ports):
        raise Conflict(f"{vm.name} is on the network {wanted.name} already")
    if len(vm.ports) >= MAX_PORTS:
        raise Conflict(f"{vm.name} is on {MAX_PORTS} networks, and cannot be on more")
    if get(Unique, keys.use("network", wanted.id, vm.id)):
        raise Conflict(f"{vm.name} is still being detached from the network {wanted.name}; try again when that is done")


@routes.post("/v1/vms/<reference>/actions/detach")
@describe("Detach a VM from a network", body=VmDetach, answer=VmAccepted, status=202, errors=(Conflict,))
def detach_vm(reference: str, body: VmDetach) -> VmAccepted:
    """Its guest loses that interface, and the VM its addresses there."""
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm, wanted = living(vm_of(id)), network.named(body.network, "network", fresh())
        port = next((port for port in vm.record.ports if port.network == wanted.record.id), None)
        if port is None:
            raise Conflict(f"{vm.record.name} is not on the network {wanted.record.name}")
        wish = change(vm, ports=tuple(other for other in vm.record.ports if other is not port))
        entry = get(Port, Port.at(port.network, id))
        wish.requires.append(as_seen(Port.at(port.network, id), entry))  # who frees the claims depends on it
        if entry is None:  # no host was told of it, so that nobody will say that it is gone
            wish.deletes += keys.port_claims(id, port)
        return wish

    return accepted(commit("detach", id, make))
