"""Which VM runs on which host, and what that host is told. Pure: records in, decisions out.

Called by the scheduler's loop in the control daemon (`ucloud.loop.Decider`), which commits what it decides.
"""

import heapq
from collections.abc import Mapping

import msgspec

from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.decision import Decision, NotNewer, Requirement, absent, unchanged
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Host, Inventory
from ucloud.model.image import Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Disk, Manifest, Placement, PoolRef, Status, Vm, Want

CPU_OVERCOMMIT = 16  # virtual cores on one real core; memory is never overcommitted


def decide(facts: Facts, now_s: float) -> list[Decision]:
    """No host is ever over its memory, and every wanted VM is placed as soon as a living host has room for it."""
    hosts = Hosts(facts)
    decisions: list[Decision] = []
    for vm in facts.all(Vm).values():
        placement = facts.get(Placement, Placement.at(vm.record.id))
        if placement and placement.record.host:
            decisions += follow(facts, vm, placement)
        elif vm.record.deleted_at:
            decisions.append(forget(vm, placement))
        else:
            decisions += place(facts, hosts, vm, placement, now_s)
    return decisions


class Room(msgspec.Struct):
    """What is left of a living, enabled host, and the facts that say so."""

    id: str
    name: str
    cpus: int
    cpus_left: int
    memory_left_mib: int
    facts: tuple[Requirement, ...]


class Hosts:
    """The rooms, the one with the most free memory first (of equals the lowest id). Ordered by a heap: a placement changes
    one room, and a thousand hosts need not be looked at again for it."""

    def __init__(self, facts: Facts) -> None:
        self.rooms = {room.id: room for room in rooms(facts)}
        self._heap = [(-room.memory_left_mib, room.id) for room in self.rooms.values()]
        heapq.heapify(self._heap)

    def take(self, vm: Vm) -> Room | None:
        """The best room for this VM, less what it takes; None if it fits nowhere."""
        passed = []
        found = None
        while self._heap and -self._heap[0][0] >= vm.memory_mib:
            entry = heapq.heappop(self._heap)
            room = self.rooms[entry[1]]
            if vm.cpus <= min(room.cpus, room.cpus_left):
                found = room
                break
            passed.append(entry)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        if found:
            found.cpus_left -= vm.cpus
            found.memory_left_mib -= vm.memory_mib
            heapq.heappush(self._heap, (-found.memory_left_mib, found.id))
        return found

    def why_not(self, vm: Vm) -> str:
        """Why `take` found nothing, in words."""
        if not self.rooms:
            return "no host is alive and enabled"
        roomiest = max(self.rooms.values(), key=lambda room: (room.memory_left_mib, room.name))
        if roomiest.memory_left_mib < vm.memory_mib:
            return f"no host has {vm.memory_mib} MiB free; the most is {roomiest.memory_left_mib} MiB on {roomiest.name}"
        largest = max(self.rooms.values(), key=lambda room: (room.cpus, room.name))
        if largest.cpus < vm.cpus:
            return f"no host has {vm.cpus} cores; the most is {largest.cpus} on {largest.name}"
        return f"no host has both {vm.memory_mib} MiB and {vm.cpus} cores free"


def rooms(facts: Facts) -> list[Room]:
    used: dict[str, tuple[int, int]] = {}
    for fact in facts.all(Manifest).values():
        cpus, memory_mib = used.get(fact.record.host, (0, 0))
        used[fact.record.host] = (cpus + fact.record.cpus, memory_mib + fact.record.memory_mib)
    found = []
    for host in facts.all(Host).values():
        id = host.record.id
        alive, inventory = facts.get(Alive, Alive.at(id)), facts.get(Inventory, Inventory.at(id, "inventory"))
        if not (host.record.enabled and alive and inventory):
            continue
        cpus = min(host.record.cpus or inventory.record.cpus, inventory.record.cpus)
        memory_mib = min(host.record.memory_mib or inventory.record.memory_mib, inventory.record.memory_mib)
        cpus_used, memory_used_mib = used.get(id, (0, 0))
        manifests = keys.manifests(id)
        nothing_else_came = NotNewer(manifests, facts.seen(manifests))
        rests_on = (unchanged(host), unchanged(alive), unchanged(inventory), nothing_else_came)
        left = (cpus * CPU_OVERCOMMIT - cpus_used, memory_mib - memory_used_mib)
        found.append(Room(id, host.record.name, cpus, *left, rests_on))
    return found


def place(facts: Facts, hosts: Hosts, vm: Fact[Vm], placement: Fact[Placement] | None, now_s: float) -> list[Decision]:
    """Give the VM an owner, or say why there is none."""
    mine = (unchanged(vm), unchanged(placement) if placement else absent(Placement.at(vm.record.id)))
    pool = facts.get(Pool, Pool.at(vm.record.pool))
    room = hosts.take(vm.record) if pool else None
    if pool is None or room is None:
        reason = hosts.why_not(vm.record) if pool else f"there is no pool {vm.record.pool}"
        if placement and placement.record.reason == reason:
            return []
        waits = Placement(
            vm=vm.record.id,
            host="",
            epoch=placement.record.epoch if placement else 0,
            since=placement.record.since if placement else timestamp(now_s),
            reason=reason,
        )
        return [Decision(verb="wait", key=vm.key, reason=reason, puts=(waits,), requires=mine)]
    reason = f"placed on {room.name}: of the hosts with room it had the most free memory"
    placed = Placement(
        vm=vm.record.id,
        host=room.id,
        epoch=1 + (placement.record.epoch if placement else 0),
        since=timestamp(now_s),
        reason=reason,
    )
    puts = (placed, manifest_for(vm, placed, pool.record))
    requires = (*mine, unchanged(pool), *room.facts)
    return [Decision(verb="place", key=vm.key, reason=reason, puts=puts, requires=requires)]


def follow(facts: Facts, vm: Fact[Vm], placement: Fact[Placement]) -> list[Decision]:
    """Keep what the host is told in step with what is wanted; when a deleted VM has left no trace, forget it."""
    host = placement.record.host
    manifest = facts.get(Manifest, Manifest.at(host, vm.record.id))
    if manifest and manifest.record.want == "absent" and not facts.get(Status, Status.at(host, "vm", vm.record.id)):
        return [forget(vm, placement, manifest)]
    pool = facts.get(Pool, Pool.at(vm.record.pool))
    wanted = manifest_for(vm, placement.record, pool.record) if pool else None
    if wanted is None or (manifest and manifest.record == wanted):
        return []
    rests_on = (unchanged(manifest) if manifest else absent(wanted.key), unchanged(vm), unchanged(placement))
    reason = f"told {host}: {wanted.want}, boot {wanted.boots}"
    return [Decision(verb="tell", key=wanted.key, reason=reason, puts=(wanted,), requires=rests_on)]


def forget(vm: Fact[Vm], placement: Fact[Placement] | None, manifest: Fact[Manifest] | None = None) -> Decision:
    """Remove a deleted VM's records, its name and its uses last of all. No status and the manifest being the one that we
    wrote prove that no trace of it is left: a host's first act is to commit a status that rests on the manifest."""
    record = vm.record
    known: Mapping[str, Fact[Placement] | Fact[Manifest] | None] = {Placement.at(record.id): placement}
    requires: list[Requirement] = [unchanged(vm)]
    if manifest:
        known = {**known, manifest.key: manifest}
        requires.append(absent(Status.at(manifest.record.host, "vm", record.id)))
    requires += [unchanged(fact) if fact else absent(key) for key, fact in known.items()]
    deletes = [key for key, fact in known.items() if fact]
    deletes += [vm.key, keys.use("image", record.image, record.id), keys.unique("vm", record.project, record.name)]
    reason = "deleted, and no trace of it is left"
    return Decision(verb="forget", key=vm.key, reason=reason, deletes=tuple(deletes), requires=tuple(requires))


def manifest_for(vm: Fact[Vm], placement: Placement, pool: Pool) -> Manifest:
    """What the host is told, made from the VM, its placement and its pool alone."""
    record = vm.record
    want: Want = "absent" if record.deleted_at else "running" if record.power == "on" else "stopped"
    ref = PoolRef(name=pool.name, kind=pool.kind, path=pool.path)
    return Manifest(
        host=placement.host,
        vm=record.id,
        name=record.name,
        epoch=placement.epoch,
        boots=record.boots,
        want=want,
        hard=record.hard,
        cpus=record.cpus,
        memory_mib=record.memory_mib,
        disks=(Disk(name="root", pool=ref, image=record.image, size_mib=record.disk_mib),),
        disks_do="delete" if record.deleted_at else "keep",
        revisions={"vm": vm.revision},
    )
