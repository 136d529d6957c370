"""Which VM runs on which host, and what that host is told. Pure: records in, decisions out.

Called by the scheduler's loop in the control daemon (`ucloud.loop.Decider`), which commits what it decides.
"""

import functools
from collections.abc import Callable

import msgspec

from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.decision import Decision, Requirement, absent, unchanged
from ucloud.model.facts import Facts
from ucloud.model.image import Pool
from ucloud.model.network import ManifestPort
from ucloud.model.record import Fact, Record
from ucloud.model.size import Size
from ucloud.model.vm import Disk, Manifest, Placement, PoolRef, Status, Vm, Want
from ucloud.scheduler.handouts import Handouts
from ucloud.scheduler.hosts import Hosts, Policy, Room, is_news
from ucloud.scheduler.ports import Ports

SHALL: dict[Want, str] = {"running": "run it", "stopped": "stop it", "absent": "remove it"}


def decide(facts: Facts, now_s: float, policy: Policy = Policy()) -> list[Decision]:  # noqa: B008 (it is frozen)
    """No host is ever over its memory, and every wanted VM is placed as soon as a living host has room for it."""
    placements = facts.all(Placement)
    hosts = functools.cache(lambda: Hosts(facts, policy))  # dear: only for a pass that needs it
    ports, handouts = Ports(facts), Handouts(facts)
    unreadable = {key.rsplit("/", 1)[-1] for key in facts.bad}  # VMs of which we don't know everything
    waiting: list[tuple[Fact[Vm], Fact[Placement] | None]] = []
    decisions: list[Decision] = []
    for vm in facts.all(Vm).values():
        placement = placements.get(Placement.prefix + vm.record.id)
        if vm.record.id in unreadable:
            continue
        decisions += ports.release(vm, placement)
        if placement and placement.record.host:
            decisions += follow(facts, hosts, ports, handouts, vm, placement, now_s)
        elif vm.record.deleted_at:
            decisions += forget(ports, vm, placement)
        else:
            waiting.append((vm, placement))
    for vm, placement in waiting:
        decisions += place(facts, hosts(), ports, handouts, vm, placement, now_s)
    decisions += handouts.clear(decisions)
    return decisions


def place(
    facts: Facts,
    hosts: Hosts,
    ports: Ports,
    handouts: Handouts,
    vm: Fact[Vm],
    placement: Fact[Placement] | None,
    now_s: float,
) -> list[Decision]:
    """Give the VM an owner, or say why there is none."""
    mine = (unchanged(vm), unchanged(placement) if placement else absent(Placement.at(vm.record.id)))
    pool = facts.get(Pool, Pool.at(vm.record.pool))
    lack = not_told(ports, handouts, vm) if pool else f"there is no pool {vm.record.pool}"
    if lack is None:
        return []
    room = None if lack else hosts.take(vm.record)
    if pool is None or room is None:
        reason = lack or hosts.why_not(vm.record)
        if placement and not is_news(placement.record.reason, reason, vm.record):
            return []
        waits = Placement(
            vm=vm.record.id,
            host="",
            epoch=placement.record.epoch if placement else 0,
            since=placement.record.since if placement else timestamp(now_s),
            reason=reason,
        )
        return [Decision(verb="wait", key=vm.key, reason=reason, puts=(waits,), requires=mine)]
    placed = Placement(
        vm=vm.record.id,
        host=room.host.id,
        epoch=1 + (placement.record.epoch if placement else 0),
        since=timestamp(now_s),
        reason=why(vm.record, room),
    )
    told = manifest_of(vm, placed, pool, ports, handouts)
    with_it = [*ports.entries(vm.record, placed.host), *handouts.copies(told)]
    puts = (placed, told, *(record for record, _ in with_it if record))
    requires = (*mine, unchanged(pool), *ports.rests_on(vm.record), *(r for _, r in with_it), *hosts.rests_on(vm.record, room))
    return [Decision(verb="place", key=vm.key, reason=placed.reason, puts=puts, requires=requires)]


def not_told(ports: Ports, handouts: Handouts, vm: Fact[Vm], before: Manifest | None = None) -> str | None:
    """Why the VM's host cannot be told of it now, in words; "" if it can; None if what is lacking may be seen in a moment."""
    for part in (ports, handouts):
        if lack := part.lack(vm.record, before):
            return None if part.is_behind(vm) else lack
    return ""


def why(vm: Vm, room: Room) -> str:
    if vm.host and "=" not in vm.host:
        return f"placed on {room.host.name}, as asked for"
    group, _, label = vm.spread.partition("@")
    condition = f" and {vm.host}" if vm.host else ""
    condition += f"{f' in a {label}' if label else ' and'} without a VM of the group {group}" if group else ""
    return f"placed on {room.host.name}: of the hosts with room{condition} it had the most free memory"


def follow(
    facts: Facts,
    hosts: Callable[[], Hosts],
    ports: Ports,
    handouts: Handouts,
    vm: Fact[Vm],
    placement: Fact[Placement],
    now_s: float,
) -> list[Decision]:
    """Keep what the host is told in step with what is wanted, once it has room for it; when a deleted VM has left no trace,
    forget it."""
    host = placement.record.host
    manifest = facts.get(Manifest, Manifest.at(host, vm.record.id))
    if manifest and manifest.record.want == "absent" and not facts.get(Status, Status.at(host, "vm", vm.record.id)):
        return forget(ports, vm, placement, manifest)
    pool, before = facts.get(Pool, Pool.at(vm.record.pool)), manifest.record if manifest else None
    if pool is None or (before and is_current(before, vm, placement.record, pool, ports, handouts)):
        return []
    mine = unchanged(manifest) if manifest else absent(Manifest.at(host, vm.record.id))
    rests_on: list[Requirement] = [mine, unchanged(vm), unchanged(placement)]
    lack = not_told(ports, handouts, vm, before)
    if lack is None or lack:
        return wait(vm, placement.record, lack, tuple(rests_on), now_s) if lack else []
    wanted = manifest_of(vm, placement.record, pool, ports, handouts, before)
    has = size_of(before) if before else Size(0, 0)
    if wanted.want == "absent":  # needs no room, and until it is gone it keeps what it has
        wanted = msgspec.structs.replace(wanted, cpus=has.cpus, memory_mib=has.memory_mib)
    more = Size(max(0, wanted.cpus - has.cpus), max(0, wanted.memory_mib - has.memory_mib))
    if any(more):
        if lack := hosts().lack(host, wanted.cpus, more):
            return wait(vm, placement.record, lack, tuple(rests_on), now_s)
        rests_on += hosts().grow(host, more)
    reason = f"its host shall {SHALL[wanted.want]}" + (f", boot {wanted.boots}" if wanted.want == "running" else "")
    if manifest and size_of(wanted) != has:
        reason += f"; it has {size_of(wanted)} now"
    with_it = [*ports.entries(vm.record, host), *handouts.copies(wanted)]
    puts: tuple[Record, ...] = (wanted, *(record for record, _ in with_it if record))
    if placement.record.waits_for:
        puts += (msgspec.structs.replace(placement.record, waits_for="", waits_since=""),)
    return [Decision(verb="tell", key=wanted.key, reason=reason, puts=puts, requires=(*rests_on, *(r for _, r in with_it)))]


def wait(vm: Fact[Vm], before: Placement, lack: str, rests_on: tuple[Requirement, ...], now_s: float) -> list[Decision]:
    """It keeps the manifest that it has, and the placement says why."""
    if before.waits_for == lack:
        return []
    waits = msgspec.structs.replace(before, waits_for=lack, waits_since=before.waits_since or timestamp(now_s))
    return [Decision(verb="wait", key=vm.key, reason=lack, puts=(waits,), requires=rests_on)]


def size_of(manifest: Manifest) -> Size:
    return Size(manifest.cpus, manifest.memory_mib)


def forget(
    ports: Ports, vm: Fact[Vm], placement: Fact[Placement] | None, manifest: Fact[Manifest] | None = None
) -> list[Decision]:
    """Remove a deleted VM's records, its name and its uses last of all. No status and the manifest being the one that we
    wrote prove that no trace of it is left: a host's first act is to commit a status that rests on the manifest. What it was
    detached from is released before."""
    record = vm.record
    if ports.are_left(record):
        return []
    known: dict[str, Fact[Record] | None] = {Placement.at(record.id): placement, **dict(ports.deleted(record))}
    requires: list[Requirement] = [unchanged(vm)]
    if manifest:
        known[manifest.key] = manifest
        requires.append(absent(Status.at(manifest.record.host, "vm", record.id)))
    requires += [unchanged(fact) if fact else absent(key) for key, fact in known.items()]
    deletes = [key for key, fact in known.items() if fact]
    deletes += [key for port in record.ports for key in keys.port_claims(record.id, port)]
    deletes += [keys.use("key", id, record.id) for id in record.keys]
    deletes += [keys.use("blob", record.user_data, record.id)] * bool(record.user_data)
    deletes += [vm.key, keys.use("image", record.image, record.id), keys.unique("vm", record.project, record.name)]
    reason = "deleted, and no trace of it is left"
    return [Decision(verb="forget", key=vm.key, reason=reason, deletes=tuple(deletes), requires=tuple(requires))]


def is_current(
    manifest: Manifest, vm: Fact[Vm], placement: Placement, pool: Fact[Pool], ports: Ports, handouts: Handouts
) -> bool:
    """A manifest says what it was made from. (`manifest_for` would tell, too, but for every VM in every pass.)"""
    told = manifest.revisions
    is_mine = told.get("vm") == vm.revision and told.get("pool") == pool.revision and manifest.epoch == placement.epoch
    return is_mine and ports.are_told(vm.record, manifest) and handouts.are_told(vm.record, manifest)


def manifest_of(
    vm: Fact[Vm], placement: Placement, pool: Fact[Pool], ports: Ports, handouts: Handouts, before: Manifest | None = None
) -> Manifest:
    """What a host is told of a VM that lacks nothing, and was told `before`."""
    record = vm.record
    return manifest_for(
        vm,
        placement,
        pool,
        ports.told(record, before),
        ports.revisions(record, before) | handouts.revisions(record),
        handouts.keys(record, before),
        handouts.user_data(record, placement.host, before),
    )


def manifest_for(
    vm: Fact[Vm],
    placement: Placement,
    pool: Fact[Pool],
    ports: tuple[ManifestPort, ...],
    others: dict[str, int],
    lines: tuple[str, ...] = (),
    user_data: str = "",
) -> Manifest:
    """What the host is told, made from the VM, its placement, its pool, and what of networks, keys and user data is known.
    others: revisions of what it is made from besides VM and pool. lines: of its keys."""
    record = vm.record
    want: Want = "absent" if record.deleted_at else "running" if record.power == "on" else "stopped"
    stored = pool.record
    ref = PoolRef(name=stored.name, kind=stored.kind, path=stored.path, shared=stored.shared, fence=stored.fence)
    return Manifest(
        host=placement.host,
        vm=record.id,
        name=record.name,
        epoch=placement.epoch,
        boots=record.boots,
        want=want,
        hard=record.hard,
        ha=record.ha,
        cpus=record.cpus,
        memory_mib=record.memory_mib,
        disks=(Disk(name="root", pool=ref, image=record.image, size_mib=record.disk_mib),),
        disks_do="delete" if record.deleted_at else "keep",
        ports=ports,
        keys=lines,
        user_data=user_data,
        metadata=record.metadata,
        revisions={"vm": vm.revision, "pool": pool.revision, **others},
    )
