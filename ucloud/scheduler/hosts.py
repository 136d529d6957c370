"""Where a VM fits: filters, in plain words, and of the hosts that pass them the one with the most free memory. Whether one
that is to grow still fits where it is.

Pure; used by `ucloud.scheduler.decide` for one pass.
"""

import functools
import heapq
import re
from collections.abc import Callable

import msgspec

from ucloud.model import keys
from ucloud.model.decision import NotNewer, Requirement, absent, unchanged
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Fence, Host, Inventory
from ucloud.model.kinds import kind_of
from ucloud.model.record import Fact
from ucloud.model.size import Size
from ucloud.model.vm import Manifest, Placement, Vm

ROOMIEST = re.compile(r"the most is (\d+) MiB on .*")
NEWS = 1 / 4  # of the memory that a VM wants: by so much the most free memory must have changed to be worth writing
MAX_NEIGHBOURS = 48  # beyond, one comparison of all placements: a transaction has room for 128


class Policy(msgspec.Struct, frozen=True):
    """cpu_overcommit: virtual cores on one real core. Memory is never overcommitted."""

    cpu_overcommit: float = 16.0


class Room(msgspec.Struct):
    """What is left of a host, and the facts that say so. is_open: it takes new VMs."""

    host: Host
    is_open: bool
    cpus: int
    cpus_left: float
    memory_left_mib: int
    facts: tuple[Requirement, ...]


class Hosts:
    """The open rooms, the one with the most free memory first (of equals the lowest id). Ordered by a heap: a placement
    changes one room, and a thousand hosts need not be looked at again for it."""

    def __init__(self, facts: Facts, policy: Policy) -> None:
        self._all = {room.host.id: room for room in rooms(facts, policy)}
        self.rooms = {id: room for id, room in self._all.items() if room.is_open}
        self._facts = facts
        self._order()

    @functools.cached_property
    def _spread(self) -> "Spread":
        """Dear: only for a pass in which a VM asks for it."""
        return Spread(self._facts)

    def _order(self) -> None:
        self._heap = [(-room.memory_left_mib, room.host.id) for room in self.rooms.values()]
        heapq.heapify(self._heap)

    def take(self, vm: Vm) -> Room | None:
        """The best room for this VM, less what it takes; None if it fits nowhere."""
        may = self._filter(vm)
        passed = []
        found = None
        while self._heap and -self._heap[0][0] >= vm.memory_mib:
            entry = heapq.heappop(self._heap)
            room = self.rooms[entry[1]]
            if vm.cpus <= min(room.cpus, room.cpus_left) and may(room.host):
                found = room
                break
            passed.append(entry)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        if found:
            found.cpus_left -= vm.cpus
            found.memory_left_mib -= vm.memory_mib
            heapq.heappush(self._heap, (-found.memory_left_mib, found.host.id))
            if vm.spread:
                self._spread.add(vm, found.host)
        return found

    def lack(self, id: str, cpus: int, more: Size) -> str:
        """Why a VM that this host has, and that shall have `cpus` cores, cannot get `more`, in words; "" if it can. A host
        that is disabled or dead takes no new VMs; those that it has may grow."""
        room = self._all.get(id)
        if room is None:
            host = self._facts.get(Host, Host.at(id))
            return f"{host.record.name if host else id} has not said what it has, or something about it cannot be read"
        name, cpus_left, memory_left_mib = room.host.name, max(0, int(room.cpus_left)), max(0, room.memory_left_mib)
        if more.memory_mib > memory_left_mib:
            return f"{name} has {memory_left_mib} MiB free, {more.memory_mib} MiB more are needed"
        if more.cpus and cpus > room.cpus:
            return f"{name} has {room.cpus} cores, {cpus} are needed"
        if more.cpus > cpus_left:
            return f"{name} can promise {cpus_left} more cores, {more.cpus} are needed"
        return ""

    def grow(self, id: str, more: Size) -> tuple[Requirement, ...]:
        """Take `more` of a host that does not lack it, for a VM that it has; what that rests on."""
        room = self._all[id]
        room.cpus_left -= more.cpus
        room.memory_left_mib -= more.memory_mib
        self._order()
        return room.facts

    def rests_on(self, vm: Vm, room: Room) -> tuple[Requirement, ...]:
        """What a placement of this VM there rests on."""
        no_fence = absent(keys.fence(room.host.id))
        return (*room.facts, no_fence, *(self._spread.rests_on(vm, room.host) if vm.spread else ()))

    def why_not(self, vm: Vm) -> str:
        """Why `take` found nothing, in words."""
        rooms = [room for room in self.rooms.values() if room.host.matches(vm.host)]
        if not rooms:
            return self._nowhere(vm)
        rooms = [room for room in rooms if self._allows(vm, room.host)]
        if not rooms:
            return self._spread.why_not(vm)
        roomiest = max(rooms, key=lambda room: (room.memory_left_mib, room.host.name))
        if roomiest.memory_left_mib < vm.memory_mib:
            most = f"{max(0, roomiest.memory_left_mib)} MiB on {roomiest.host.name}"
            return f"no host{self._among(vm)} has {vm.memory_mib} MiB free; the most is {most}"
        largest = max(rooms, key=lambda room: (room.cpus, room.host.name))
        if largest.cpus < vm.cpus:
            return f"no host{self._among(vm)} has {vm.cpus} cores; the most is {largest.cpus} on {largest.host.name}"
        return f"no host{self._among(vm)} has both {vm.memory_mib} MiB and {vm.cpus} cores free"

    def _filter(self, vm: Vm) -> Callable[[Host], bool]:
        return lambda host: host.matches(vm.host) and self._allows(vm, host)

    def _allows(self, vm: Vm, host: Host) -> bool:
        return not vm.spread or self._spread.allows(vm, host)

    def _nowhere(self, vm: Vm) -> str:
        if vm.host and "=" not in vm.host:
            host = self._facts.get(Host, Host.at(vm.host))
            return f"{host.record.name if host else vm.host}, where it shall run, {self._why_no_room(host)}"
        return f"no host{f' with {vm.host}' if vm.host else ''} is alive and enabled"

    def _why_no_room(self, host: Fact[Host] | None) -> str:
        if host is None:
            return "is no host of this cloud"
        if host.record.removed_at:
            return "is to be removed"
        alive, fence = self._facts.get(Alive, Alive.at(host.record.id)), keys.fence(host.record.id)
        if alive is None:
            return "is down"
        if self._facts.get(Fence, fence) or fence in self._facts.bad:
            return "is back, and is made ready"
        if alive.record.degraded:
            return "has a host daemon that does not answer"
        return "has not said what it has, or said what cannot be read" if host.record.enabled else "is disabled"

    def _among(self, vm: Vm) -> str:
        return " that it may run on" if vm.host or vm.spread else ""


class Spread:
    """VMs of one group never share a host (`web`) or hosts with the same value of a label (`web@rack`)."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._taken: dict[str, dict[str, set[str]]] = {}  # group → host, or value of the label → those of it that are there
        self._hosts = {fact.record.id: fact.record for fact in facts.all(Host).values()}
        doubtful = hosts_of_unreadable(facts)
        owners = [(fact.record.vm, fact.record.host) for fact in facts.all(Placement).values()]
        for vm_id, host_id in (*owners, *((fact.record.vm, fact.record.host) for fact in facts.all(Manifest).values())):
            vm, host = facts.get(Vm, Vm.at(vm_id)), self._hosts.get(host_id)
            if vm is None:
                doubtful.add(host_id)  # it may be newer than what we have seen of the VMs
            elif host:
                self.add(vm.record, host)
        self._doubtful = [self._hosts[id] for id in doubtful if id in self._hosts]

    def add(self, vm: Vm, host: Host) -> None:
        if vm.spread:
            self._taken.setdefault(vm.spread, {}).setdefault(place_of(vm, host), set()).add(vm.id)

    def allows(self, vm: Vm, host: Host) -> bool:
        """A host without the label is no place at all. A VM of which not all is known may be of any group. It is not in its own
        way: where its host died, it may come to a neighbour."""
        place = place_of(vm, host)
        doubtful = any(place_of(vm, other) == place for other in self._doubtful)
        return place != "" and self._taken.get(vm.spread, {}).get(place, set()) <= {vm.id} and not doubtful

    def why_not(self, vm: Vm) -> str:
        group, _, label = vm.spread.partition("@")
        place = f"{label} with a host" if label else "host"
        unread = ", or one of which not all is known" if self._doubtful else ""
        return f"every {place} that is alive and enabled has a VM of the group {group} already{unread}"

    def rests_on(self, vm: Vm, host: Host) -> tuple[Requirement, ...]:
        """No host that the VM shares its place with was told of anything since we looked; of `host` itself the room says so."""
        if not vm.spread:
            return ()
        place = place_of(vm, host)
        others = [other.id for other in self._hosts.values() if other.id != host.id and place_of(vm, other) == place]
        prefixes = [Placement.prefix] if len(others) > MAX_NEIGHBOURS else map(keys.manifests, others)
        return tuple(NotNewer(prefix, self._facts.seen(prefix)) for prefix in prefixes)


def hosts_of_unreadable(facts: Facts) -> set[str]:
    """Those that were told of a VM of which some record cannot be read."""
    if not facts.bad:
        return set()
    unreadable = {key.rsplit("/", 1)[-1] for key in facts.bad}
    manifests = (key.split("/") for key in (*facts.all(Manifest), *facts.bad) if kind_of(key) is Manifest)
    return {parts[1] for parts in manifests if parts[-1] in unreadable}


def place_of(vm: Vm, host: Host) -> str:
    """What VMs of its group must not share with it: the host, or its value of the label; "" where it has none."""
    _, _, label = vm.spread.partition("@")
    return host.labels.get(label, "") if label else host.id


def rooms(facts: Facts, policy: Policy) -> list[Room]:
    """Of every host that has said what it has and of whose manifests all can be read. The smaller of agreed and reported
    capacity counts."""
    doubtful = {key.split("/")[1] for key in facts.bad if kind_of(key) is Manifest}
    used: dict[str, tuple[int, int]] = {}
    for fact in facts.all(Manifest).values():
        manifest = fact.record
        cpus, memory_mib = used.get(manifest.host, (0, 0))
        used[manifest.host] = (cpus + manifest.cpus, memory_mib + manifest.memory_mib)
    found = []
    for host in facts.all(Host).values():
        id = host.record.id
        alive, inventory = facts.get(Alive, Alive.at(id)), facts.get(Inventory, Inventory.at(id, "inventory"))
        if not inventory or id in doubtful:
            continue
        cpus, memory_mib = host.record.capacity(inventory.record)
        cpus_used, memory_used_mib = used.get(id, (0, 0))
        manifests = keys.manifests(id)
        lives = (unchanged(alive),) if alive else ()
        rests_on = (unchanged(host), *lives, unchanged(inventory), NotNewer(manifests, facts.seen(manifests)))
        left = (cpus * policy.cpu_overcommit - cpus_used, memory_mib - memory_used_mib)
        found.append(Room(host.record, is_open(facts, host.record, alive), cpus, *left, rests_on))
    return found


def is_open(facts: Facts, host: Host, alive: Fact[Alive] | None) -> bool:
    """Whether the host takes new VMs."""
    fence = keys.fence(host.id)
    is_fenced = facts.get(Fence, fence) is not None or fence in facts.bad
    is_well = alive is not None and not alive.record.degraded
    return host.enabled and not host.removed_at and is_well and not is_fenced


def is_news(said: str, reason: str, vm: Vm) -> bool:
    """Whether the VM's reason to wait is written again. Free memory changes with every VM that comes or goes, and thousands may
    wait: a number that is nearly right stays."""
    before, now = ROOMIEST.search(said), ROOMIEST.search(reason)
    if not before or not now or said[: before.start()] != reason[: now.start()]:
        return said != reason
    return abs(int(before[1]) - int(now[1])) >= vm.memory_mib * NEWS
