"""A VM that has an owner: what that is told follows what is wanted, until no trace of the VM is left.

Pure; used by `ucloud.scheduler.decide`.
"""

from msgspec.structs import replace

from ucloud.model import keys
from ucloud.model.decision import Decision, Requirement, absent, as_seen, unchanged
from ucloud.model.image import Pool
from ucloud.model.record import Fact, Record
from ucloud.model.size import Size
from ucloud.model.vm import Manifest, Placement, Status, Vm, Want
from ucloud.scheduler.look import Look
from ucloud.scheduler.manifests import is_current, lack, manifest_of, size_of, with_it

SHALL: dict[Want, str] = {"running": "run it", "stopped": "stop it", "absent": "remove it"}


def follow(look: Look, vm: Fact[Vm], placement: Fact[Placement]) -> list[Decision]:
    """Keep what the host is told in step with what is wanted, once it has room for it; when a deleted VM has left no trace,
    forget it."""
    host = placement.record.host
    manifest = look.facts.get(Manifest, Manifest.at(host, vm.record.id))
    if manifest and manifest.record.want == "absent" and not look.facts.get(Status, Status.at(host, "vm", vm.record.id)):
        return forget(look, vm, placement, manifest)
    pool = look.facts.get(Pool, Pool.at(vm.record.pool))
    if pool is None:
        return []
    if manifest and is_current(look, manifest.record, vm, placement.record, pool):
        return go_on(vm, placement) if placement.record.waits_for else []
    return tell(look, vm, placement, manifest, pool)


def tell(
    look: Look, vm: Fact[Vm], placement: Fact[Placement], manifest: Fact[Manifest] | None, pool: Fact[Pool]
) -> list[Decision]:
    host, before = placement.record.host, manifest.record if manifest else None
    mine = as_seen(Manifest.at(host, vm.record.id), manifest)
    rests_on: tuple[Requirement, ...] = (mine, unchanged(vm), unchanged(placement))
    lacking = lack(look, vm, before)
    if lacking is None or lacking:
        return wait(look, vm, placement.record, lacking, rests_on) if lacking else []
    wanted = manifest_of(look, vm, placement.record, pool, before)
    has = size_of(before) if before else Size(0, 0)
    more = Size(max(0, wanted.cpus - has.cpus), max(0, wanted.memory_mib - has.memory_mib))
    if any(more):
        if lacking := look.hosts.lack(host, wanted.cpus, more):
            return wait(look, vm, placement.record, lacking, rests_on)
        rests_on += look.hosts.grow(host, more)
    status = look.facts.get(Status, Status.at(host, "vm", vm.record.id))
    if wanted.want == "absent" and wanted.epoch > 1 and status:
        rests_on += (unchanged(status),)
    reason = f"its host shall {SHALL[wanted.want]}" + (f", boot {wanted.boots}" if wanted.want == "running" else "")
    if manifest and size_of(wanted) != has:
        reason += f"; it has {size_of(wanted)} now"
    records, theirs = with_it(look, vm.record, wanted)
    puts: tuple[Record, ...] = (wanted, *records)
    if placement.record.waits_for:
        puts += (replace(placement.record, waits_for="", waits_since=""),)
    return [Decision(verb="tell", key=wanted.key, reason=reason, puts=puts, requires=(*rests_on, *theirs))]


def wait(look: Look, vm: Fact[Vm], before: Placement, lacking: str, rests_on: tuple[Requirement, ...]) -> list[Decision]:
    """It keeps the manifest that it has, and the placement says why."""
    if before.waits_for == lacking:
        return []
    waits = replace(before, waits_for=lacking, waits_since=before.waits_since or look.now)
    return [Decision(verb="wait", key=vm.key, reason=lacking, puts=(waits,), requires=rests_on)]


def go_on(vm: Fact[Vm], placement: Fact[Placement]) -> list[Decision]:
    """What it waited for has come without anything to tell: its host is back."""
    waits_no_more = replace(placement.record, waits_for="", waits_since="")
    reason = "what it waited for is there"
    return [Decision(verb="go-on", key=vm.key, reason=reason, puts=(waits_no_more,), requires=(unchanged(placement),))]


def forget(
    look: Look, vm: Fact[Vm], placement: Fact[Placement] | None, manifest: Fact[Manifest] | None = None
) -> list[Decision]:
    """Remove a deleted VM's records, its name and its uses last of all. No status and the manifest being the one that we
    wrote prove that no trace of it is left: a host's first act is to commit a status that rests on the manifest. What it was
    detached from is released before."""
    record = vm.record
    if look.ports.are_left(record):
        return []
    known: dict[str, Fact[Record] | None] = {Placement.at(record.id): placement, **dict(look.ports.deleted(record))}
    requires: list[Requirement] = [unchanged(vm)]
    if manifest:
        known[manifest.key] = manifest
        requires.append(absent(Status.at(manifest.record.host, "vm", record.id)))
    requires += [as_seen(key, fact) for key, fact in known.items()]
    deletes = [key for key, fact in known.items() if fact]
    deletes += [key for port in record.ports for key in keys.port_claims(record.id, port)]
    deletes += [keys.use("key", id, record.id) for id in record.keys]
    deletes += [keys.use("blob", record.user_data, record.id)] * bool(record.user_data)
    deletes += [vm.key, keys.use("image", record.image, record.id), keys.unique("vm", record.project, record.name)]
    reason = "deleted, and no trace of it is left"
    return [Decision(verb="forget", key=vm.key, reason=reason, deletes=tuple(deletes), requires=tuple(requires))]
