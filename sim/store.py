"""The network between a process and the store: answers come late, get lost or never leave, and watches lag or break.

The store itself is the production `MemoryStore`; each process has a `Connection` of its own, made anew when it starts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sim.invariants import Invariants
from sim.process import Process
from sim.world import Killed, Violation
from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.store.contract import Batch, Item, Listing, Watch
from ucloud.store.memory import MemoryStore

REFUSED = 0.02
COMMIT_REFUSED, COMMIT_LOST, COMMIT_LATE = 0.02, 0.03, 0.05
OUTLIVES = 0.5  # of the requests whose sender dies
LATE_S = (0.2, 1.0, 4.0, 12.0)
WATCH_BREAKS, WATCH_LAGS, WATCH_SPLITS = 0.005, 0.1, 0.1
LAGS_S = (0.2, 1.0, 3.0, 8.0)

Keep = Callable[[Requirement], bool]


class Connection:
    """A `ucloud.store.contract.Store`. `keep`: which requirements are sent (see sim.protections)."""

    def __init__(self, process: Process, store: MemoryStore, invariants: Invariants, keep: Keep = lambda _: True) -> None:
        self._process, self._world, self._store = process, process.world, store
        self._invariants, self._keep = invariants, keep
        self._written: dict[str, int] = {}

    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        self._ask("list", prefix)
        listing = self._store.list(prefix, after=after, limit=limit, revision=revision)
        self._answer("list")
        return listing

    def get(self, key: str) -> Item | None:
        self._ask("get", key)
        item = self._store.get(key)
        self._answer("get")
        return item

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> "LaggingWatch":
        for prefix in after:
            self._invariants.reading(self._process.name, prefix)
        watch = LaggingWatch(self._process, self._store.watch(after, wake), wake)
        self._process.connections.append(watch.close)
        return watch

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        deletes, requires = tuple(deletes), tuple(requires)
        sent = tuple(requirement for requirement in requires if self._keep(requirement))

        def happen() -> int:
            revision = self._store.commit(puts, deletes, sent, lease)
            self._invariants.committed(self._process.name, puts, deletes, requires)
            return revision

        try:
            self._process.call("commit")
        except Killed:
            if self._world.happens(OUTLIVES):
                self._happen_later(happen)
            raise
        losses = self._world.weather.losses
        if self._world.happens(COMMIT_REFUSED * losses):
            raise Temporary("the store refused", 0.5)
        if self._world.happens(COMMIT_LATE * losses):
            self._happen_later(happen)
            raise Temporary("the store did not answer in time", 0.5)
        try:
            revision = happen()
        except Conflict:
            if self._process.name != "user":  # who has no memory
                self._check_own(sent)
            raise
        self._written |= dict.fromkeys((*puts, *deletes), revision)
        if self._world.tracing:
            self._world.say(self._process.name, f"commit {describe(puts, deletes, requires)} @{revision}")
        if self._world.happens(COMMIT_LOST * losses):
            raise Temporary("the store's answer was lost", 0.5)
        self._process.call("the answer of a commit")
        return revision

    def _check_own(self, requires: Iterable[Requirement]) -> None:
        """An answer lost is not a no: who has written must have read again before it decides again."""
        for requirement in requires:
            if isinstance(requirement, Unchanged) and not requirement.key.startswith("lock/"):
                item, own = self._store.get(requirement.key), self._written.get(requirement.key, 0)
                if item and item.mod_revision == own > requirement.revision:
                    raise Violation(
                        f"{self._process.name} decides on {requirement.key}@{requirement.revision}, but wrote @{own}"
                    )

    def _happen_later(self, happen: Callable[[], int]) -> None:
        def arrive() -> None:
            try:
                self._world.say(self._process.name, f"a commit that was given up happens now: @{happen()}")
            except (Conflict, NotFound) as error:
                self._world.say(self._process.name, f"a commit that was given up fails: {error.message}")

        self._world.after(self._world.chance.choice(LATE_S), arrive)

    def grant(self, ttl_s: float) -> int:
        self._process.call("grant")
        lease = self._store.grant(ttl_s)
        self._answer("grant")
        return lease

    def keep_alive(self, lease: int) -> float:
        self._process.call("keep_alive")
        ttl_s = self._store.keep_alive(lease)
        self._answer("keep_alive")
        return ttl_s

    def revoke(self, lease: int) -> None:
        self._process.call("revoke")
        self._store.revoke(lease)

    def close(self) -> None:
        self._process.end()

    def _ask(self, what: str, key: str) -> None:
        self._invariants.reading(self._process.name, key)
        self._process.call(what)

    def _answer(self, what: str) -> None:
        if self._world.happens(REFUSED * self._world.weather.losses):
            raise Temporary(f"the answer to {what} was lost", 0.5)
        self._process.call(what)


class LaggingWatch:
    """Holds back what arrives under one prefix while others go on, and hands out a part of it first."""

    def __init__(self, process: Process, watch: Watch, wake: Callable[[], None]) -> None:
        self._process, self._world, self._watch, self._wake = process, process.world, watch, wake
        self._waiting: dict[str, list[Batch]] = {}
        self._until_s: dict[str, float] = {}

    def poll(self) -> Sequence[Batch]:
        if self._world.happens(WATCH_BREAKS * self._world.weather.lags):
            raise Temporary("the watch broke", 0.2)
        for batch in self._watch.poll():
            self._waiting.setdefault(batch.prefix, []).append(batch)
            if self._world.happens(WATCH_LAGS * self._world.weather.lags):
                self._lag(batch.prefix, self._world.chance.choice(LAGS_S))
        arrived: list[Batch] = []
        for prefix in list(self._waiting):
            if self._until_s.get(prefix, 0.0) <= self._world.monotonic_s() or not self._world.faulty:
                arrived += self._take(prefix)
        return arrived

    def close(self) -> None:
        self._watch.close()

    def _take(self, prefix: str) -> list[Batch]:
        batches = self._waiting.pop(prefix)
        if self._world.happens(WATCH_SPLITS):
            *batches, last = batches
            revision = last.changes[0].revision if last.changes else last.revision
            first = tuple(change for change in last.changes if change.revision == revision)
            rest = last.changes[len(first) :]
            batches.append(Batch(prefix, first, revision))
            if rest:
                self._waiting[prefix] = [Batch(prefix, rest, last.revision)]
                self._lag(prefix, 0.2)
        return batches

    def _lag(self, prefix: str, s: float) -> None:
        self._until_s[prefix] = self._world.monotonic_s() + s
        self._world.after(s, self._wake)


def describe(puts: Mapping[str, bytes], deletes: Sequence[str], requires: Sequence[Requirement]) -> str:
    writes = [f"{key} = {brief(value)}" for key, value in puts.items()] + [f"delete {key}" for key in deletes]
    return "; ".join(writes) + " if " + ", ".join(map(requirement_text, requires))


def brief(value: bytes) -> str:
    """The fields of a record that tell a story."""
    record = msgspec.json.decode(value)
    telling = ("host", "epoch", "boots", "want", "phase", "power", "deleted_at", "error", "owner", "memory_mib", "stray_vms")
    return " ".join(f"{name}:{record[name]}" for name in telling if name in record)


def requirement_text(requirement: Requirement) -> str:
    if isinstance(requirement, Unchanged):
        return f"{requirement.key}@{requirement.revision}"
    assert isinstance(requirement, NotNewer)
    return f"{requirement.prefix}*≤{requirement.revision}"
