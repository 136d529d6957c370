"""The network between a process and the store: answers come late, get lost or never leave, and watches lag or break.

Each loop of a process has a `Connection` of its own, made anew when the process starts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sim.etcd import Etcd, Link
from sim.invariants import Invariants
from sim.process import LoopThread, Process
from sim.watch import LaggingWatch
from sim.world import Killed, Violation
from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.store.contract import Item, Listing, StoreMember
from ucloud.store.memory import MemoryStore

REFUSED = 0.02
COMMIT_REFUSED, COMMIT_LOST, COMMIT_LATE = 0.02, 0.03, 0.05
OUTLIVES = 0.5  # of the requests whose sender dies
LATE_S = (0.2, 1.0, 4.0, 12.0)
CLOCK_TOLERANCE = 1.05  # clocks drift
TELLING = (
    *("name", "host", "epoch", "boots", "want", "phase", "power", "deleted_at", "error", "owner", "cpus", "memory_mib"),
    *("spread", "waits_for", "image", "enabled", "stray_vms", "about", "reason"),
)

Keep = Callable[[Requirement], bool]
Sees = Callable[[MemoryStore, Item], Item | None]


class Connection:
    """A `ucloud.store.contract.Store`. loop: whose it is. keep: which requirements are sent; sees: how a single item looks
    (see sim.protections). thread: the one that watches wake."""

    def __init__(
        self,
        process: Process,
        etcd: Etcd,
        link: Link,
        invariants: Invariants,
        loop: str,
        keep: Keep = lambda _: True,
        sees: Sees = lambda _, item: item,
    ) -> None:
        self.loop = loop
        self.thread: LoopThread | None = None
        self._process, self._world, self._etcd, self._link = process, process.world, etcd, link
        self._invariants, self._keep, self._sees = invariants, keep, sees
        self._written: dict[str, int] = {}
        self._heard_s = float("-inf")

    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        self._ask("list", prefix)
        listing = self._etcd.store.list(prefix, after=after, limit=limit, revision=revision)
        self._answer("list")
        self.hear()
        return listing

    def get(self, key: str) -> Item | None:
        self._ask("get", key)
        item = self._etcd.store.get(key)
        self._answer("get")
        return self._sees(self._etcd.store, item) if item else None

    def get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        for key in keys:
            self._invariants.reading(self._process.name, key)
        self._reach("get_all")
        items = self._etcd.store.get_all(keys)
        self._answer("get_all")
        return [self._sees(self._etcd.store, item) if item else None for item in items]

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> LaggingWatch:
        for prefix in after:
            self._invariants.reading(self._process.name, prefix)
        watch = LaggingWatch(self._process, self._etcd, self._link, after, self.thread.wake if self.thread else wake, self.hear)
        self._process.connections.append(watch.close)
        return watch

    def hear(self) -> None:
        """The store has said something: what is known is not older than now."""
        self._heard_s = self._world.monotonic_s()

    def decide(self) -> None:
        """Something was just decided: it must not rest on an old view."""
        age_s = self._world.monotonic_s() - self._heard_s
        if age_s > MAX_VIEW_AGE_S * CLOCK_TOLERANCE:
            raise Violation(f"{self._process.name}: {self.loop} decides on a view that is {age_s:.0f} s old")

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
            revision = self._etcd.commit(puts, deletes, sent, lease)
            self._invariants.committed(self._process.name, self.loop, puts, deletes, sent)
            return revision

        try:
            self._process.call("commit")
            self._etcd.wait(self._link)
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
            if self.loop != "api":  # whose requests know nothing of each other
                self._check_own(sent)
            raise
        self._written |= dict.fromkeys((*puts, *deletes), revision)
        if self._world.tracing:
            self._world.say(self._process.name, f"commit {describe(puts, deletes, requires)} @{revision}")
        if self._world.happens(COMMIT_LOST * losses):
            raise Temporary("the store's answer was lost", 0.5)
        self._etcd.answer(self._link)
        self._process.call("the answer of a commit")
        return revision

    def _check_own(self, requires: Iterable[Requirement]) -> None:
        """An answer lost is not a no: who has written must have read again before it decides again."""
        for requirement in requires:
            if isinstance(requirement, Unchanged) and not requirement.key.startswith("lock/"):
                item, own = self._etcd.store.get(requirement.key), self._written.get(requirement.key, 0)
                if item and item.mod_revision == own > requirement.revision:
                    raise Violation(
                        f"{self._process.name} decides on {requirement.key}@{requirement.revision}, but wrote @{own}"
                    )

    def _happen_later(self, happen: Callable[[], int]) -> None:
        def arrive() -> None:
            try:
                self._world.say(self._process.name, f"a commit that was given up happens now: @{happen()}")
            except (Conflict, NotFound, Temporary) as error:
                self._world.say(self._process.name, f"a commit that was given up fails: {error.message}")

        self._world.after(self._world.chance.choice(LATE_S), arrive)

    def grant(self, ttl_s: float) -> int:
        self._reach("grant")
        lease = self._etcd.grant(ttl_s)
        self._answer("grant")
        return lease

    def keep_alive(self, lease: int) -> float:
        self._reach("keep_alive")
        ttl_s = self._etcd.store.keep_alive(lease)
        self._answer("keep_alive")
        return ttl_s

    def revoke(self, lease: int) -> None:
        self._reach("revoke")
        self._etcd.store.revoke(lease)

    def members(self) -> Sequence[StoreMember]:
        return self._etcd.store.members()

    def close(self) -> None:
        self._process.end()

    def _ask(self, what: str, key: str) -> None:
        self._invariants.reading(self._process.name, key)
        self._reach(what)

    def _reach(self, what: str) -> None:
        self._process.call(what)
        self._etcd.wait(self._link)

    def _answer(self, what: str) -> None:
        self._etcd.answer(self._link)
        if self._world.happens(REFUSED * self._world.weather.losses):
            raise Temporary(f"the answer to {what} was lost", 0.5)
        self._process.call(what)


def describe(puts: Mapping[str, bytes], deletes: Sequence[str], requires: Sequence[Requirement]) -> str:
    writes = [f"{key} = {brief(value)}" for key, value in puts.items()] + [f"delete {key}" for key in deletes]
    return "; ".join(writes) + " if " + ", ".join(map(requirement_text, requires))


def brief(value: bytes) -> str:
    """The fields of a record that tell a story."""
    record = msgspec.json.decode(value)
    return " ".join(f"{name}:{record[name]}" for name in TELLING if name in record)


def requirement_text(requirement: Requirement) -> str:
    if isinstance(requirement, Unchanged):
        return f"{requirement.key}@{requirement.revision}"
    assert isinstance(requirement, NotNewer)
    return f"{requirement.prefix}*≤{requirement.revision}"
