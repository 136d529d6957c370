"""Which VM runs on which host, and what that host is told. Pure: records in, decisions out.

Called by the scheduler's loop in the control daemon (`ucloud.loop.Decider`), which commits what it decides.
"""

from ucloud.model.decision import Decision
from ucloud.model.facts import Facts
from ucloud.model.image import Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Placement, Vm
from ucloud.scheduler.failover import leave, repeat
from ucloud.scheduler.follow import follow, forget
from ucloud.scheduler.hosts import Policy
from ucloud.scheduler.look import Look
from ucloud.scheduler.place import place, turn


def decide(facts: Facts, now_s: float, policy: Policy = Policy()) -> list[Decision]:  # noqa: B008 (it is frozen)
    """No host is ever over its memory, every wanted VM is placed as soon as a living host has room for it, and none leaves its
    host before that can do nothing for it any more."""
    look, placements = Look(facts, now_s, policy), facts.all(Placement)
    unreadable = {key.rsplit("/", 1)[-1] for key in facts.bad}  # VMs of which we don't know everything
    homeless: list[tuple[Fact[Vm], Fact[Placement]]] = []  # their host died
    owned: list[tuple[Fact[Vm], Fact[Placement]]] = []
    new: list[tuple[Fact[Vm], Fact[Placement] | None]] = []
    decisions: list[Decision] = []
    for vm in facts.all(Vm).values():
        placement = placements.get(Placement.prefix + vm.record.id)
        if vm.record.id in unreadable:
            continue
        decisions += look.ports.release(vm, placement)
        if placement is None or (not placement.record.host and not placement.record.epoch):
            new.append((vm, placement))
        elif not placement.record.host or placement.record.host in look.fenced:
            homeless.append((vm, placement))
        else:
            owned.append((vm, placement))
    for vm, placement in sorted(homeless, key=lambda pair: turn(pair[0].record)):
        fence = look.fenced.get(placement.record.host)
        decisions += leave(look, vm, placement, fence) if fence else settle(look, vm, placement)
    for vm, placement in owned:
        decisions += follow(look, vm, placement)
    for vm, none in sorted(new, key=lambda pair: turn(pair[0].record)):
        decisions += settle(look, vm, none)
    decisions += repeat(look, decisions)
    decisions += look.handouts.clear(decisions)
    return decisions


def settle(look: Look, vm: Fact[Vm], placement: Fact[Placement] | None) -> list[Decision]:
    """A VM without an owner. One that had an owner may have a disk in a shared pool: when it is deleted somebody must remove
    that. One that lost its disk is not made anew from its image behind its people's back."""
    had_owner = placement is not None and placement.record.epoch > 0
    is_lost = placement is not None and placement.record.lost
    if vm.record.deleted_at:
        pool = look.facts.get(Pool, Pool.at(vm.record.pool))
        has_disk = had_owner and not is_lost and (pool is None or pool.record.shared)
        return place(look, vm, placement) if has_disk else forget(look, vm, placement)
    return [] if is_lost else place(look, vm, placement)
