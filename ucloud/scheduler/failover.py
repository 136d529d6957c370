"""What becomes of the VMs of a host that was declared dead: each moves, waits for a host with room, or waits for its own.

Pure; used by `ucloud.scheduler.decide` for VMs whose host has a fence in phase `fenced`. While that fence stands the host
begins nothing, so its statuses say what it had begun, and rest on nothing that may come late. See doc/fencing.md.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ucloud.model.decision import Decision, Requirement, as_seen, unchanged
from ucloud.model.host import Alive, Fence, Reconciled
from ucloud.model.image import Pool
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.scheduler.look import Look
from ucloud.scheduler.manifests import lack
from ucloud.scheduler.place import give, needed, why


class Dead:
    """A VM on a fenced host: all that is known of it there."""

    def __init__(self, look: Look, vm: Fact[Vm], placement: Fact[Placement], fence: Fact[Fence]) -> None:
        id, host = vm.record.id, placement.record.host
        self.vm, self.placement, self.fence = vm, placement, fence
        self.host = look.host(host)
        self.name = look.name(host)
        self.manifest = look.facts.get(Manifest, Manifest.at(host, id))
        self.status = look.facts.get(Status, Status.at(host, "vm", id))
        pools = {vm.record.pool, *self.status.record.pools} if self.status else ()  # that it may have begun to use
        self.pools = {name: look.facts.get(Pool, Pool.at(name)) for name in sorted(pools)}

    @property
    def is_lost(self) -> bool:
        """Its host never comes back."""
        return self.host is not None and self.host.record.lost

    @property
    def only_there(self) -> str:
        """The pool with a disk of the VM that no other host has; "" if there is none."""
        return next((name for name, pool in self.pools.items() if pool and not pool.record.shared), "")

    @property
    def placed(self) -> Placement:
        """As it is now, but that it is remembered if the guest has powered itself off."""
        placed = self.placement.record
        if self.status is None or self.status.record.phase != "off":
            return placed
        return replace(placed, powered_off=self.status.record.boots)

    @property
    def died(self) -> str:
        return f"{self.name} was declared dead (fence {self.fence.record.number})"

    def rests_on(self) -> tuple[Requirement, ...]:
        """What has to be so for its host not to be its owner any more."""
        host, id = self.fence.record.host, self.vm.record.id
        return (
            unchanged(self.vm),
            unchanged(self.placement),
            unchanged(self.fence),
            as_seen(Manifest.at(host, id), self.manifest),
            as_seen(Status.at(host, "vm", id), self.status),
            *(unchanged(pool) for pool in self.pools.values() if pool),
            *((unchanged(self.host),) if self.host and self.is_lost else ()),
        )


def leave(look: Look, vm: Fact[Vm], placement: Fact[Placement], fence: Fact[Fence]) -> list[Decision]:
    """Let the VM go elsewhere, if nothing of it can be written to any more where it was, and it wants to."""
    dead = Dead(look, vm, placement, fence)
    if dead.is_lost and dead.only_there:
        return [lose(look, dead)]
    if waits_for := stays_for(look, dead):
        return stay(look, dead, waits_for)
    lacking = lack(look, vm) if look.facts.get(Pool, Pool.at(vm.record.pool)) else f"there is no pool {vm.record.pool}"
    if lacking is None:
        return []
    return stay(look, dead, lacking) if lacking else [move(look, dead)]


def stays_for(look: Look, dead: Dead) -> str:
    """What the VM waits for where it is, in words; "" if it may go elsewhere. One without a status was never begun there. To
    remove a deleted one is nobody's wish but ours."""
    vm, name = dead.vm.record, dead.name
    if not dead.is_lost and has_reconciled(look, dead) and look.facts.get(Alive, Alive.at(dead.fence.record.host)):
        return f"{name} to be made ready: it is back"
    if dead.status is None:
        return ""
    if pool := dead.only_there:
        last = f"; if it never does: ucloud host remove {name} --lost" if vm.deleted_at else ""
        return f"{name} to come back: its disk is in the pool {pool}, of which {name} has its own{last}"
    if not vm.deleted_at and not dead.is_lost:
        if "never" in (vm.ha, dead.status.record.ha):
            return f"{name} to come back: it is not to run elsewhere (--ha never)"
        if vm.host == dead.fence.record.host:
            return f"{name} to come back: it is to run on that host alone"
    doubts = (doubt(look, dead, name, pool) for name, pool in dead.pools.items())
    if found := next(filter(None, doubts), ""):
        say_so = f"ucloud host fence {name} --confirm-off"
        return f"{name} to come back, or to be off for certain: {found}; if it is off, say so: {say_so}"
    return ""


def doubt(look: Look, dead: Dead, name: str, pool: Fact[Pool] | None) -> str:
    """Why the dead host may still write to this shared pool, in words; "" if it cannot."""
    fence = dead.fence.record
    if pool is None:
        return f"the record {Pool.at(name)} is missing or cannot be read"
    if name not in fence.proofs:
        return f"it may still write to the pool {name} ({fence.errors.get(name, 'nothing has cut it off')})"
    if pool.record.fence == "same-kernel" and not (dead.status and dead.status.record.leased) and not is_over(look, dead):
        return "its guest there does not end when the host's lease does"
    return ""


def is_over(look: Look, dead: Dead) -> bool:
    """Whether no guest is left there, leased or not: its host has said so, or the operator that the machine is off."""
    host = dead.host
    is_off = host is not None and host.record.is_off(dead.fence.record.boot)
    return is_off or has_reconciled(look, dead)


def has_reconciled(look: Look, dead: Dead) -> bool:
    fence = dead.fence.record
    said = look.facts.get(Reconciled, Reconciled.at(fence.host, "reconciled"))
    return said is not None and said.record.number == fence.number


def move(look: Look, dead: Dead) -> Decision:
    """To a host with room; without one it has no owner until there is room, and then comes before all others."""
    vm, pool = dead.vm, look.facts.get(Pool, Pool.at(dead.vm.record.pool))
    assert pool, "or it would have stayed"
    room = look.hosts.take(needed(vm.record))
    if room is None:
        return release(look, dead)
    reason = f"{dead.died}; {why(vm.record, room)}"
    given = give(look, vm, dead.placed, pool, room, reason)
    deletes = (dead.manifest.key,) if dead.manifest else ()
    requires = tuple(dict.fromkeys((*dead.rests_on(), *given.requires)))
    return replace(given, verb="move", deletes=deletes, requires=requires)


def release(look: Look, dead: Dead) -> Decision:
    reason = look.hosts.why_not(needed(dead.vm.record))
    return disown(look, dead, verb="wait", reason=reason, news=f"{dead.died}, and {reason}")


def lose(look: Look, dead: Dead) -> Decision:
    reason = f"its disk was lost with {dead.name}, which alone had it (pool {dead.only_there})"
    return disown(look, dead, verb="lose", reason=reason, news=reason)


def disown(look: Look, dead: Dead, verb: str, reason: str, news: str) -> Decision:
    """Nobody is its owner any more, nor told of its ports. The epoch stays: it tells that it had one."""
    free = replace(dead.placed, host="", since=look.now, reason=reason, lost=verb == "lose", waits_for="", waits_since="")
    booked = [entry for _, entry in look.ports.deleted(dead.vm.record) if entry]
    deletes = [entry.key for entry in booked] + ([dead.manifest.key] if dead.manifest else [])
    requires = (*dead.rests_on(), *(unchanged(entry) for entry in booked))
    return Decision(verb=verb, key=dead.vm.key, reason=news, puts=(free,), deletes=tuple(deletes), requires=requires)


def stay(look: Look, dead: Dead, waits_for: str) -> list[Decision]:
    """It is told the same once more, under a new epoch, so that nothing that its host had begun to say before the fence can
    still be said when the fence goes; that goes only then."""
    placed, manifest = dead.placed, dead.manifest
    again = manifest is not None and manifest.revision < dead.fence.revision
    if not again and placed.waits_for == waits_for:
        return []
    waits = replace(placed, epoch=placed.epoch + again, waits_for=waits_for, waits_since=placed.waits_since or look.now)
    puts: tuple[Record, ...] = (waits,)
    if manifest and again:
        is_off = manifest.record.boots == waits.powered_off
        puts += (replace(manifest.record, epoch=waits.epoch, powered_off=is_off),)
    return [Decision(verb="wait", key=dead.vm.key, reason=waits_for, puts=puts, requires=dead.rests_on())]


def repeat(look: Look, decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Whatever else a fenced host was told, of VMs that cannot be read or are placed elsewhere, say: it is told the very same
    again, or its fence would never go. decisions: all others of this pass."""
    written = {key for decision in decisions for key in (*decision.deletes, *(record.key for record in decision.puts))}
    for told in look.facts.all(Manifest).values() if look.fenced else ():
        fence = look.fenced.get(told.record.host)
        if fence and told.revision < fence.revision and told.key not in written:
            requires = (unchanged(told), unchanged(fence))
            yield Decision(verb="tell", key=told.key, reason="as before", puts=(told.record,), requires=requires)
