"""Which host becomes a VM's owner, or why there is none.

Pure; used by `ucloud.scheduler.decide` for VMs without an owner, and by `ucloud.scheduler.failover` for those whose host died.
"""

from msgspec.structs import replace

from ucloud.model.decision import Decision, as_seen, unchanged
from ucloud.model.image import Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Placement, Vm
from ucloud.scheduler.hosts import Room, is_news
from ucloud.scheduler.look import Look
from ucloud.scheduler.manifests import lack, manifest_of, with_it

RANKS = {"high": 0, "normal": 1, "low": 2}


def turn(vm: Vm) -> tuple[int, bool, str]:
    """Who is placed first, of many."""
    return RANKS[vm.priority], vm.power == "off", vm.id


def place(look: Look, vm: Fact[Vm], placement: Fact[Placement] | None) -> list[Decision]:
    """Give the VM an owner, or say why there is none."""
    mine = (unchanged(vm), as_seen(Placement.at(vm.record.id), placement))
    pool = look.facts.get(Pool, Pool.at(vm.record.pool))
    lacking = lack(look, vm) if pool else f"there is no pool {vm.record.pool}"
    if lacking is None:
        return []
    needs = needed(vm.record)
    room = None if lacking else look.hosts.take(needs)
    if pool is None or room is None:
        reason = lacking or look.hosts.why_not(needs)
        if placement and not is_news(placement.record.reason, reason, vm.record):
            return []
        before = placement.record if placement else Placement(vm=vm.record.id, host="", epoch=0, since=look.now, reason="")
        return [Decision(verb="wait", key=vm.key, reason=reason, puts=(replace(before, reason=reason),), requires=mine)]
    given = give(look, vm, placement.record if placement else None, pool, room, f"placed {why(vm.record, room)}")
    return [replace(given, verb="place", requires=(*mine, *given.requires))]


def needed(vm: Vm) -> Vm:
    """As far as its host is concerned. To remove a deleted one, any host will do."""
    return replace(vm, cpus=0, memory_mib=0, host="", spread="") if vm.deleted_at else vm


def give(look: Look, vm: Fact[Vm], before: Placement | None, pool: Fact[Pool], room: Room, reason: str) -> Decision:
    """Of the VM's new owner: what is written, and all that it rests on but the VM and its placement before."""
    placed = Placement(
        vm=vm.record.id,
        host=room.host.id,
        epoch=1 + (before.epoch if before else 0),
        since=look.now,
        reason=reason,
        powered_off=before.powered_off if before else 0,
    )
    told = manifest_of(look, vm, placed, pool)
    records, theirs = with_it(look, vm.record, told)
    networks = look.ports.rests_on(vm.record)
    requires = (unchanged(pool), *networks, *theirs, *look.hosts.rests_on(needed(vm.record), room))
    return Decision(verb="give", key=vm.key, reason=reason, puts=(placed, told, *records), requires=requires)


def why(vm: Vm, room: Room) -> str:
    if vm.deleted_at:
        return f"on {room.host.name}, to be removed there"
    if vm.host and "=" not in vm.host:
        return f"on {room.host.name}, as asked for"
    group, _, label = vm.spread.partition("@")
    condition = f" and {vm.host}" if vm.host else ""
    condition += f"{f' in a {label}' if label else ' and'} without a VM of the group {group}" if group else ""
    return f"on {room.host.name}: of the hosts with room{condition} it had the most free memory"
