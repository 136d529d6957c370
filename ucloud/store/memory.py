"""A store in memory with the contract and the limits of etcd: the simulator runs on it, and tests that need no daemon.

Deterministic: it has no threads and reads no clock but the one it is given. So leases expire, and signs of life fall
due, when any method is called; `wake` is called for changes only.
"""

import math
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, NotFound
from ucloud.model.decision import Requirement, Unchanged
from ucloud.store import limits
from ucloud.store.contract import Batch, Change, Compacted, Item, Listing, StoreMember

SIGN_OF_LIFE_S = 5.0


class Lease(msgspec.Struct):
    ttl_s: float
    deadline_s: float


class Turn:
    """Alone, with due leases expired; afterwards, outside the lock, wakes the watches that have something new."""

    __slots__ = ("_before", "_store")

    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    def __enter__(self) -> None:
        store = self._store
        store._lock.acquire()
        self._before = store._revision
        store._expire()

    def __exit__(self, *_: object) -> None:
        store = self._store
        woken = store._wakes(self._before) if store._revision > self._before else ()
        store._lock.release()
        for watch in woken:
            watch.wake()


class MemoryStore:
    """`_versions`: of each key all changes that are not compacted away, oldest first; `_log`: the same by revision."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._revision = 1
        self._compacted = 0
        self._keys: list[str] = []
        self._versions: dict[str, list[Change]] = {}
        self._log: list[Change] = []
        self._leases: dict[int, Lease] = {}
        self._next_lease = 1
        self._due_s = math.inf  # no lease runs out before
        self._watches: list[MemoryWatch] = []

    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        with self._turn():
            revision = revision or self._revision
            # etcd has one answer for a revision that is gone and one that has not been: neither can be listed.
            if not self._compacted <= revision <= self._revision:
                raise Compacted(f"revision {revision} cannot be listed")
            found: list[Item] = []
            for item in self._items(prefix, after, revision):
                if limit and len(found) == limit:
                    return Listing(tuple(found), revision, more=True)
                found.append(item)
            return Listing(tuple(found), revision)

    def get(self, key: str) -> Item | None:
        with self._turn():
            return self._item(key)

    def get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        with self._turn():
            return [self._item(key) for key in keys]

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> "MemoryWatch":
        with self._turn():
            watch = MemoryWatch(self, dict(after), wake, self._clock.monotonic_s())
            self._watches.append(watch)
            overdue = any(self._changes(prefix, revision) for prefix, revision in after.items())
        if overdue:
            wake()
        return watch

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        deletes, requires = tuple(deletes), tuple(requires)
        limits.check(puts, deletes, requires)
        with self._turn():
            for requirement in requires:
                self._demand(requirement)
            if puts and lease and lease not in self._leases:
                raise NotFound(f"lease {lease} is gone")
            return self._write(puts, deletes, lease)

    def grant(self, ttl_s: float) -> int:
        with self._turn():
            lease = self._next_lease
            self._next_lease += 1
            whole_s = float(math.ceil(ttl_s))  # as etcd, which counts in whole seconds
            self._leases[lease] = Lease(whole_s, self._clock.monotonic_s() + whole_s)
            self._due_s = min(self._due_s, self._leases[lease].deadline_s)
            return lease

    def keep_alive(self, lease: int) -> float:
        with self._turn():
            if lease not in self._leases:
                raise NotFound(f"lease {lease} is gone")
            held = self._leases[lease]
            held.deadline_s = self._clock.monotonic_s() + held.ttl_s
            return held.ttl_s

    def revoke(self, lease: int) -> None:
        with self._turn():
            self._end(lease)

    def members(self) -> Sequence[StoreMember]:
        """Only itself. It has no database on a disk, so its size is that of what stands there now."""
        with self._turn():
            size = sum(len(item.key) + len(item.value) for item in self._items())
        return [StoreMember(name="memory", endpoint="", answers=True, leads=True, has_leader=True, db_bytes=size)]

    def close(self) -> None:
        with self._lock:
            self._watches.clear()

    def compact(self, revision: int) -> None:
        """Forget what was before `revision`, as etcd does by itself from time to time: older watches break."""
        with self._turn():
            revision = min(revision, self._revision)
            self._compacted = max(self._compacted, revision)
            self._log = self._log[bisect_right(self._log, revision, key=lambda change: change.revision) :]
            for key in self._keys:
                changes = self._versions[key]
                old = bisect_right(changes, revision, key=lambda change: change.revision)
                keep_last = old > 0 and changes[old - 1].item is not None
                self._versions[key] = changes[old - keep_last :]
            self._versions = {key: changes for key, changes in self._versions.items() if changes}
            self._keys = sorted(self._versions)
            broken = [watch for watch in self._watches if watch.is_broken()]
        for watch in broken:
            watch.wake()

    def rearm_leases(self) -> None:
        """What a newly elected leader of etcd does: each lease gets its whole TTL again."""
        with self._turn():
            for lease in self._leases.values():
                lease.deadline_s = self._clock.monotonic_s() + lease.ttl_s

    def _turn(self) -> "Turn":
        return Turn(self)

    def _expire(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            for id in [id for id, lease in self._leases.items() if lease.deadline_s <= now_s]:
                self._end(id)
            self._due_s = min((lease.deadline_s for lease in self._leases.values()), default=math.inf)

    def _wakes(self, before: int) -> Sequence["MemoryWatch"]:
        """The watches that have something new since this revision."""
        keys = {change.key for change in self._since(before)}
        return [watch for watch in self._watches if any(key.startswith(tuple(watch.positions)) for key in keys)]

    def _end(self, lease: int) -> None:
        if self._leases.pop(lease, None):
            self._write({}, tuple(item.key for item in self._items() if item.lease == lease), 0)

    def _write(self, puts: Mapping[str, bytes], deletes: Sequence[str], lease: int) -> int:
        present = [key for key in deletes if self._item(key)]
        if not puts and not present:
            return self._revision
        self._revision += 1
        for key, value in puts.items():
            before = self._item(key)
            created = before.create_revision if before else self._revision
            self._record(key, Item(key, bytes(value), created, self._revision, lease))
        for key in present:
            self._record(key, None)
        return self._revision

    def _record(self, key: str, item: Item | None) -> None:
        change = Change(key, item, self._revision)
        if key not in self._versions:
            self._versions[key] = []
            insort(self._keys, key)
        self._versions[key].append(change)
        self._log.append(change)

    def _demand(self, requirement: Requirement) -> None:
        if isinstance(requirement, Unchanged):
            item = self._item(requirement.key)
            holds = (item.mod_revision if item else 0) == requirement.revision
        else:
            holds = all(item.mod_revision <= requirement.revision for item in self._items(requirement.prefix))
        if not holds:
            raise Conflict(f"no longer true: {requirement}")

    def _item(self, key: str) -> Item | None:
        changes = self._versions.get(key)
        return changes[-1].item if changes else None

    def _items(self, prefix: str = "", after: str = "", revision: int = 0) -> Iterator[Item]:
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        for index in range(start, len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                return
            changes = self._versions[key]
            known = bisect_right(changes, revision, key=lambda change: change.revision) if revision else len(changes)
            item = changes[known - 1].item if known else None
            if item:
                yield item

    def _since(self, revision: int) -> Sequence[Change]:
        return self._log[bisect_right(self._log, revision, key=lambda change: change.revision) :]

    def _changes(self, prefix: str, after: int) -> tuple[Change, ...]:
        return tuple(change for change in self._since(after) if change.key.startswith(prefix))


class MemoryWatch:
    """`positions`: the revision up to which each prefix has been polled."""

    def __init__(self, store: MemoryStore, after: dict[str, int], wake: Callable[[], None], now_s: float) -> None:
        self.positions = after
        self.wake = wake
        self._store = store
        self._last_s = now_s

    def poll(self) -> Sequence[Batch]:
        store = self._store
        with store._turn():
            if self.is_broken():
                raise Compacted(f"the changes before revision {store._compacted} are gone")
            now_s = store._clock.monotonic_s()
            revision = store._revision
            if now_s - self._last_s < SIGN_OF_LIFE_S and min(self.positions.values()) >= revision:
                return []
            news = store._since(min(self.positions.values()))
            batches = [
                Batch(prefix, tuple(c for c in news if c.revision > seen and c.key.startswith(prefix)), revision)
                for prefix, seen in self.positions.items()
            ]
            self.positions = {prefix: max(seen, revision) for prefix, seen in self.positions.items()}
            if now_s - self._last_s < SIGN_OF_LIFE_S:
                batches = [batch for batch in batches if batch.changes]
            if batches:
                self._last_s = now_s
            return batches

    def is_broken(self) -> bool:
        # Revision 1 is an empty store: nothing is lost to a watch from 0 while nothing else was compacted.
        return any(max(revision, 1) < self._store._compacted for revision in self.positions.values())

    def close(self) -> None:
        with self._store._lock:
            if self in self._store._watches:
                self._store._watches.remove(self)
