"""What a host is told of a VM: made from the VM, its placement, its pool, and what of networks, keys and user data is known.

Pure; used by the scheduler's other parts.
"""

from msgspec.structs import replace

from ucloud.model.decision import Requirement
from ucloud.model.image import Pool
from ucloud.model.network import ManifestPort
from ucloud.model.record import Fact, Record
from ucloud.model.size import Size
from ucloud.model.vm import Disk, Manifest, Placement, PoolRef, Status, Vm, Want
from ucloud.scheduler.look import Look


def lack(look: Look, vm: Fact[Vm], before: Manifest | None = None) -> str | None:
    """Why the VM's host cannot be told of it now, in words; "" if it can; None if what is lacking may be seen in a moment."""
    for part in (look.ports, look.handouts):
        if lack := part.lack(vm.record, before):
            return None if part.is_behind(vm) else lack
    return ""


def is_current(look: Look, manifest: Manifest, vm: Fact[Vm], placement: Placement, pool: Fact[Pool]) -> bool:
    """A manifest says what it was made from. (`manifest_for` would tell, too, but for every VM in every pass.)"""
    told = manifest.revisions
    is_mine = told.get("vm") == vm.revision and told.get("pool") == pool.revision and manifest.epoch == placement.epoch
    if not is_mine or (vm.record.deleted_at and manifest.want != want_of(look, vm.record, placement, manifest)):
        return False
    return look.ports.are_told(vm.record, manifest) and look.handouts.are_told(vm.record, manifest)


def want_of(look: Look, vm: Vm, placement: Placement, before: Manifest | None) -> Want:
    """A host that was told `absent` and has no status has no trace of the VM, and it is forgotten. The disk of one that had
    another owner before may be there without: so its present owner has to say something of it first. What that said as an
    earlier owner may vanish as long as no manifest is there."""
    if not vm.deleted_at:
        return "running" if vm.power == "on" else "stopped"
    is_known = before is not None and look.facts.get(Status, Status.at(placement.host, "vm", vm.id)) is not None
    return "absent" if is_known or placement.epoch <= 1 else "stopped"


def manifest_of(look: Look, vm: Fact[Vm], placement: Placement, pool: Fact[Pool], before: Manifest | None = None) -> Manifest:
    """What a host is told of a VM that lacks nothing, and was told `before`. A deleted one needs no room, and keeps what it has
    until it is gone."""
    record, ports, handouts = vm.record, look.ports, look.handouts
    told = manifest_for(
        vm,
        placement,
        pool,
        ports.told(record, before),
        ports.revisions(record, before) | handouts.revisions(record),
        handouts.keys(record, before),
        handouts.user_data(record, placement.host, before),
    )
    if not record.deleted_at:
        return told
    want = want_of(look, record, placement, before)
    has = size_of(before) if before else Size(0, 0)
    disks_do = "delete" if want == "absent" else "keep"
    return replace(told, want=want, disks_do=disks_do, cpus=has.cpus, memory_mib=has.memory_mib)


def manifest_for(
    vm: Fact[Vm],
    placement: Placement,
    pool: Fact[Pool],
    ports: tuple[ManifestPort, ...],
    others: dict[str, int],
    lines: tuple[str, ...] = (),
    user_data: str = "",
) -> Manifest:
    """That of a VM that is not deleted. others: revisions of what it is made from besides VM and pool. lines: of its keys."""
    record = vm.record
    stored = pool.record
    ref = PoolRef(name=stored.name, kind=stored.kind, path=stored.path, shared=stored.shared, fence=stored.fence)
    return Manifest(
        host=placement.host,
        vm=record.id,
        name=record.name,
        epoch=placement.epoch,
        boots=record.boots,
        want="running" if record.power == "on" else "stopped",
        hard=record.hard,
        powered_off=record.boots == placement.powered_off,
        ha=record.ha,
        cpus=record.cpus,
        memory_mib=record.memory_mib,
        disks=(Disk(name="root", pool=ref, image=record.image, size_mib=record.disk_mib),),
        ports=ports,
        keys=lines,
        user_data=user_data,
        metadata=record.metadata,
        revisions={"vm": vm.revision, "pool": pool.revision, **others},
    )


def with_it(look: Look, vm: Vm, told: Manifest) -> tuple[tuple[Record, ...], tuple[Requirement, ...]]:
    """What is written together with a manifest (the address book, a copy of the user data), and what that rests on."""
    parts = [*look.ports.entries(vm, told.host), *look.handouts.copies(told)]
    return tuple(record for record, _ in parts if record), tuple(requirement for _, requirement in parts)


def size_of(manifest: Manifest) -> Size:
    return Size(manifest.cpus, manifest.memory_mib)
