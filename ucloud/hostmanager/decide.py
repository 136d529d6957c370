"""Which silent host is declared dead, when its pools are safe, and when it is one of us again. Pure: records and what the loop
remembers in, decisions out.

Called by the host manager's loop (`ucloud.hostmanager.manager`) in the control daemon. doc/fencing.md explains the order.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Literal

import msgspec

from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.decision import Decision, NotNewer, Requirement, absent, as_seen, unchanged
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Endpoint, Failover, Fence, Hold, Host, Inventory, Reconciled
from ucloud.model.image import Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Placement, Status

STORM_S = 60.0  # so many seconds of calm are waited for when too many hosts fall silent at once
AT_ONCE, SHARE = 2, 0.25  # more hosts than these within STORM_S are too many
PACE_S = 10.0  # afterwards one host in so many seconds
MOST_DELETES = 100  # of a removed host's records, in one transaction
LEASE_ENDED = "its lease has run out, its guests were killed with it, and qemu's locks keep out what stands still"
POWERED_OFF = "the operator has said that the machine is switched off"
CAME_BACK = "it is back and has ended every guest that was started before"
LOCAL = "each host has its own files there: its VMs wait for it"
NO_FENCE = "nothing cuts a dead host off it"
RUNS = "its fence command runs"
PACED = f"too many hosts fell silent at once: one is declared dead every {PACE_S:g} s"
DISARMED = "the cluster is disarmed: its fence command is not run"

Command = tuple[str, int, str]  # host, number of its fence, pool


class Outcome(msgspec.Struct, frozen=True):
    """Of a fence command that has ended. proof: in words, of one that succeeded; else `error` says why not."""

    proof: str = ""
    error: str = ""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. silent: hosts without a heartbeat, for so long that none is to come. calm_s: since the last of too many
    hosts fell silent at once; None: they were not too many. paced_s: since a host was declared dead. trust_s: for how much
    longer etcd's silence about a host means nothing: it lacked its quorum, or this process has only just begun to look.
    outcomes: of fence commands. running: those that have not ended. others_s: for how much longer one of another control
    process may run."""

    facts: Facts
    silent: Set[str] = frozenset()
    calm_s: float | None = None
    paced_s: float = float("inf")
    trust_s: float = 0.0
    outcomes: Mapping[Command, Outcome] = {}
    running: Set[Command] = frozenset()
    others_s: float = 0.0


def decide(world: World, now_s: float) -> list[Decision]:
    """A host is declared dead only while it has no heartbeat, and is one of us again only after it has said that nothing runs
    on it that was started before, and every manifest of it was written anew."""
    facts, decisions, silent = world.facts, list[Decision](), list[Fact[Host]]()
    for key, host in facts.all(Host).items():
        said = {keys.fence(host.record.id), Alive.at(host.record.id), Reconciled.at(host.record.id, "reconciled")}
        if key in facts.bad or said & facts.bad.keys():
            continue  # whether it lives, or what it was told, is not known
        fence = facts.get(Fence, keys.fence(host.record.id))
        alive = facts.get(Alive, Alive.at(host.record.id))
        if host.record.removed_at and not alive and is_empty(facts, host.record.id):
            decisions.append(forget(facts, host, fence))
        elif fence:
            decisions += advance(world, host, fence, alive)
        elif not alive and host.record.id in world.silent and is_known(facts, host.record.id):
            silent.append(host)
    why = why_not(world)
    if not why:
        paced = silent[:1] if world.calm_s is not None else silent
        decisions += [declare(world, host, now_s) for host in paced]
        silent = silent[len(paced) :]
    return decisions + hold(facts, why or PACED, [host.record for host in silent], now_s)


def why_not(world: World) -> str:
    """Why no host is declared dead now, in words; "" if there is no reason."""
    facts = world.facts
    if why := why_disarmed(facts):
        return why
    if not any(is_refuge(facts, host.record) for host in facts.all(Host).values()):
        return "no other host is alive and enabled: nothing could go there"
    if world.trust_s > 0:
        return "etcd lacked its quorum, or this process began to look, just now: hosts get the time to be heard"
    if world.calm_s is not None and world.calm_s < STORM_S:
        return f"too many hosts fell silent at once, which looks like a fault of the network: waiting {STORM_S:g} s"
    if world.calm_s is not None and world.paced_s < PACE_S:
        return PACED
    return ""


def why_disarmed(facts: Facts) -> str:
    """In words; "" if the cluster is armed, which must be readable."""
    key = Failover.at("failover")
    if key in facts.bad:
        return "whether the cluster is armed cannot be read; ucloud cluster arm or disarm writes it anew"
    failover = facts.get(Failover, key)
    if failover is None or failover.record.armed:
        return ""
    given = f": {failover.record.reason}" if failover.record.reason else ""
    return f"the cluster is disarmed{given}; ucloud cluster arm ends that"


def is_known(facts: Facts, host: str) -> bool:
    """It has lived before: one that was only just added may be on its way."""
    inventory = Inventory.at(host, "inventory")
    return facts.get(Inventory, inventory) is not None or inventory in facts.bad


def is_refuge(facts: Facts, host: Host) -> bool:
    alive, fence = facts.get(Alive, Alive.at(host.id)), facts.get(Fence, keys.fence(host.id))
    return bool(alive and not alive.record.degraded and not fence and host.enabled and not host.removed_at)


def are_too_many(silent: int, hosts: int) -> bool:
    return silent > max(AT_ONCE, SHARE * hosts)


def hold(facts: Facts, why: str, silent: Sequence[Host], now_s: float) -> list[Decision]:
    """Said aloud while VMs could be brought back elsewhere, and taken back. silent: whom nobody declares dead now."""
    if Hold.at("hold") in facts.bad:
        return []
    before = facts.get(Hold, Hold.at("hold"))
    shared = {pool.record.name for pool in facts.all(Pool).values() if pool.record.shared}
    at_stake = tuple(host.id for host in silent if shared & uses(facts, host.id))
    if not at_stake:
        gone = Decision(verb="go on", key=Hold.at("hold"), reason="nothing is held any more", deletes=(Hold.at("hold"),))
        return [msgspec.structs.replace(gone, requires=(unchanged(before),))] if before else []
    if before and (before.record.reason, before.record.hosts) == (why, at_stake):
        return []
    since = before.record.since if before and before.record.reason == why else timestamp(now_s)
    said = Hold(reason=why, since=since, hosts=at_stake)
    names = ", ".join(host.name for host in silent if host.id in at_stake)
    requires = (as_seen(said.key, before),)
    return [Decision(verb="hold", key=said.key, reason=f"{names} not declared dead: {why}", puts=(said,), requires=requires)]


def declare(world: World, host: Fact[Host], now_s: float) -> Decision:
    """From this commit on no first act of that host can succeed. What it has begun is read afterwards, by the scheduler, whose
    decisions rest on the fence and on each VM's status. That its lease has run out is a proof at once, for all pools for which
    it is one; so a fence takes one commit where there are no others."""
    facts, id = world.facts, host.record.id
    inventory = facts.get(Inventory, Inventory.at(id, "inventory"))
    said = facts.get(Reconciled, Reconciled.at(id, "reconciled"))
    fence = Fence(
        host=id,
        number=1 + (said.record.number if said else 0),
        boot=inventory.record.boot if inventory else "",
        phase="fencing",
        since=timestamp(now_s),
        reason="its lease ran out",
    )
    fence = with_proofs(world, host.record, fence)
    failover = facts.get(Failover, Failover.at("failover"))
    requires = (
        absent(fence.key),
        absent(Alive.at(id)),
        unchanged(host),
        as_seen(Failover.at("failover"), failover),
        as_seen(Reconciled.at(id, "reconciled"), said),
        *([unchanged(inventory)] if inventory else []),
        *proven(facts, fence.proofs),
    )
    return Decision(verb="declare", key=fence.key, reason=summary(fence), puts=(fence,), requires=requires)


def advance(world: World, host: Fact[Host], fence: Fact[Fence], alive: Fact[Alive] | None) -> list[Decision]:
    facts, id = world.facts, host.record.id
    told = with_proofs(world, host.record, fence.record)
    if told != fence.record:
        verb = "fence" if (told.phase, told.proofs) != (fence.record.phase, fence.record.proofs) else "try"
        requires = (unchanged(fence), unchanged(host), *proven(facts, told.proofs.keys() - fence.record.proofs.keys()))
        return [Decision(verb=verb, key=fence.key, reason=summary(told), puts=(told,), requires=requires)]
    reconciled = has_reconciled(facts, fence.record)
    if not (alive and reconciled and alive.record.boot == reconciled.record.boot):  # a later boot begins to clean once more
        return []
    is_safe = fence.record.phase == "fenced" and not may_be_hit(world, id)
    if is_safe and are_all_newer(facts, id, fence.revision):
        reason = f"it has ended all guests that were started before, and is used again (fence {fence.record.number})"
        manifests = keys.manifests(id)
        rests_on = (unchanged(fence), unchanged(alive), unchanged(reconciled), NotNewer(manifests, facts.seen(manifests)))
        return [Decision(verb="lift", key=fence.key, reason=reason, deletes=(fence.key,), requires=rests_on)]
    return []


def may_be_hit(world: World, host: str) -> bool:
    """By a fence command that was begun before it came back: in use again, it would be cut off once more."""
    is_running = any(command[0] == host for command in world.running)
    return is_running or (world.others_s > 0 and bool(with_commands(world.facts)))


def with_commands(facts: Facts) -> set[str]:
    """Names of the pools from which a command cuts hosts off."""
    return {fact.record.name for fact in facts.all(Pool).values() if fact.record.shared and fact.record.fence == "command"}


def proven(facts: Facts, pools: Iterable[str]) -> Iterable[Requirement]:
    """What a proof rests on: the pool is still one for which it is one."""
    return [unchanged(pool) for pool in facts.all(Pool).values() if pool.record.name in pools]


def with_proofs(world: World, host: Host, fence: Fence) -> Fence:
    """The fence with all that is known of its pools now. Proofs stay."""
    facts, proofs, errors = world.facts, dict(fence.proofs), dict[str, str]()
    used, waits = uses(facts, host.id), False
    for pool in (fact.record for fact in facts.all(Pool).values()):
        if pool.name in proofs:
            continue
        outcome = world.outcomes.get((host.id, fence.number, pool.name))
        if not pool.shared:
            errors |= {pool.name: LOCAL} if pool.name in used else {}
        elif has_reconciled(facts, fence):
            proofs[pool.name] = CAME_BACK
        elif host.is_off(fence.boot):
            proofs[pool.name] = POWERED_OFF
        elif pool.fence == "same-kernel":
            proofs[pool.name] = LEASE_ENDED
        elif pool.name not in used:
            continue
        elif pool.fence == "none":
            errors[pool.name] = NO_FENCE
        elif outcome and outcome.proof:
            proofs[pool.name] = outcome.proof
        elif outcome:
            errors[pool.name] = outcome.error
        else:
            waits = True
            errors[pool.name] = fence.errors.get(pool.name, DISARMED if why_disarmed(facts) else RUNS)
    phase: Literal["fencing", "fenced"] = "fencing" if waits and not proofs and fence.phase == "fencing" else "fenced"
    return msgspec.structs.replace(fence, phase=phase, proofs=proofs, errors=errors)


def commands(facts: Facts) -> Iterable[tuple[Command, Host, str]]:
    """Fence commands that are to be run, with their host and its address, "" where it is not known; each until it succeeds, and
    none while the cluster is disarmed."""
    if why_disarmed(facts):
        return
    pools = with_commands(facts)
    for fence in (fact.record for fact in facts.all(Fence).values()):
        host, unproven = facts.get(Host, Host.at(fence.host)), pools - fence.proofs.keys()
        if host is None or not unproven:
            continue
        endpoint = facts.get(Endpoint, Endpoint.at(fence.host, "endpoint"))
        for name in sorted(unproven & uses(facts, fence.host)):
            yield (fence.host, fence.number, name), host.record, endpoint.record.url if endpoint else ""


def summary(fence: Fence) -> str:
    safe = [f"pool {pool}: {proof}" for pool, proof in sorted(fence.proofs.items())]
    lacking = [f"pool {pool} is not safe: {error}" for pool, error in sorted(fence.errors.items())]
    return "; ".join([f"fence {fence.number}: {fence.reason}", *safe, *lacking])


def uses(facts: Facts, host: str) -> set[str]:
    """Names of the pools in which that host has, or had, disks of VMs."""
    told = {disk.pool.name for manifest in of_host(facts, host) for disk in manifest.record.disks}
    prefix = keys.statuses(host)
    said = (status.record for key, status in facts.all(Status).items() if key.startswith(prefix))
    return told | {pool for status in said for pool in status.pools}


def of_host(facts: Facts, host: str) -> list[Fact[Manifest]]:
    prefix = keys.manifests(host)
    return [fact for key, fact in facts.all(Manifest).items() if key.startswith(prefix)]


def has_reconciled(facts: Facts, fence: Fence) -> Fact[Reconciled] | None:
    said = facts.get(Reconciled, Reconciled.at(fence.host, "reconciled"))
    return said if said and said.record.number == fence.number else None


def are_all_newer(facts: Facts, host: str, revision: int) -> bool:
    """Every manifest was written after the fence: what a host began before rests on an older one, and fails. Of a host without
    VMs nothing may ever be heard, so whoever acts on this rests on no manifest being newer than what was seen."""
    prefix = keys.manifests(host)
    unreadable = any(key.startswith(prefix) for key in facts.bad)
    return not unreadable and all(m.revision > revision for m in of_host(facts, host))


def is_empty(facts: Facts, host: str) -> bool:
    """No VM belongs to it, as far as is known."""
    placed = any(placement.record.host == host for placement in facts.all(Placement).values())
    unreadable = any(key.startswith((Placement.prefix, keys.manifests(host))) for key in facts.bad)
    return not placed and not unreadable and not of_host(facts, host)


def forget(facts: Facts, host: Fact[Host], fence: Fact[Fence] | None) -> Decision:
    """Of a removed host: first what it has said, if that is much; its record and its name last of all. A placement rests on
    the host's record, and no manifest has come since we looked."""
    id, prefix = host.record.id, keys.statuses(host.record.id)
    said = [key for kind in (Status, Inventory, Endpoint, Reconciled) for key in facts.all(kind) if key.startswith(prefix)]
    manifests = keys.manifests(id)
    requires = (unchanged(host), absent(Alive.at(id)), NotNewer(manifests, facts.seen(manifests)))
    if len(said) > MOST_DELETES:
        reason = "removed: what it said of its VMs goes"
        return Decision(verb="clear", key=host.key, reason=reason, deletes=tuple(said[:MOST_DELETES]), requires=requires)
    fenced = as_seen(keys.fence(id), fence)
    deletes = (*said, *([fence.key] if fence else []), host.key, keys.unique("host", host.record.name))
    reason = "removed, lost with all that only it had" if host.record.lost else "removed, and no VM was left on it"
    return Decision(verb="forget", key=host.key, reason=reason, deletes=deletes, requires=(*requires, fenced))
