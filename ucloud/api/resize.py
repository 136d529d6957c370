"""/v1/vms/…/actions/resize: other cores, other memory, a larger disk. Of a stopped VM, or one that has no host yet: nothing may
run that has more than its host was told (decision 0007)."""

from typing import Annotated, ClassVar

from flask import Blueprint
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api import capacity, phase
from ucloud.api.body import given
from ucloud.api.describe import describe
from ucloud.api.fields import Cpus, DiskMib, MemoryMib
from ucloud.api.records import PROJECT, Wish, commit, find, fresh, get
from ucloud.api.vm import VmAccepted, accepted, change, living, vm_of
from ucloud.base.errors import Conflict, Invalid, NoCapacity
from ucloud.model.decision import as_seen
from ucloud.model.size import Size
from ucloud.model.vm import Placement, Vm

routes = Blueprint("resize", __name__)


class VmResize(Struct, frozen=True):
    at_least_one: ClassVar[bool] = True
    cpus: Cpus | UnsetType = UNSET
    memory_mib: MemoryMib | UnsetType = UNSET
    disk_mib: Annotated[DiskMib | UnsetType, Meta(description="a disk can only grow")] = UNSET


@routes.post("/v1/vms/<reference>/actions/resize")
@describe("Resize a VM", body=VmResize, answer=VmAccepted, status=202, errors=(Conflict, NoCapacity))
def resize_vm(reference: str, body: VmResize) -> VmAccepted:
    """Stop it first. What is not named stays. It waits until its host has room for what it gets more; 507 at once if no host
    that it may run on is large enough."""
    id, wanted = find("vm", reference, PROJECT), given(body)

    def make() -> Wish:
        """Read in this order, so that a VM that is at rest stays so until its record changes. One that has no host gets none
        meanwhile: the placement is required to be what it was."""
        vm = living(vm_of(id))
        placement = get(Placement, Placement.at(id))
        sight = phase.gather(fresh(), vm)
        _refuse_smaller_disk(vm.record, wanted)
        _refuse_too_large(vm.record, wanted, sight)
        if sight.placed and not phase.is_at_rest(sight):
            raise Conflict(f"stop it first: ucloud vm stop {vm.record.name}")
        if all(getattr(vm.record, field) == value for field, value in wanted.items()):
            return Wish(revision=vm.revision)
        wish = change(vm, **wanted)
        wish.requires.append(as_seen(Placement.at(id), placement))
        return wish

    return accepted(commit("resize", id, make))


def _refuse_smaller_disk(vm: Vm, wanted: dict[str, int]) -> None:
    if wanted.get("disk_mib", vm.disk_mib) < vm.disk_mib:
        raise Invalid(
            f"disk_mib: the disk has {vm.disk_mib} MiB, and can only grow", {"disk_mib": f"must be at least {vm.disk_mib}"}
        )


def _refuse_too_large(vm: Vm, wanted: dict[str, int], sight: phase.Sight) -> None:
    """Of its own host, once it has one. Whoever gets smaller is not refused, even where a host has become too small."""
    size = Size(wanted.get("cpus", vm.cpus), wanted.get("memory_mib", vm.memory_mib))
    if size.cpus > vm.cpus or size.memory_mib > vm.memory_mib:
        capacity.refuse_too_large(size, sight.placement.host if sight.placement and sight.placed else vm.host)
