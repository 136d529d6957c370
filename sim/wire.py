"""The wire between the daemons of a story and its etcd, and what a story does to both."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sim.process import Process
from sim.stage import Stage
from sim.world import Killed
from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.model.decision import Requirement
from ucloud.store.contract import Batch, Item, Listing, StoreMember, Watch
from ucloud.store.memory import MemoryStore

NAMED = ("vm/", "host/", "image/")

Happen = Callable[[], int]


class Etcd:
    """The store, and what ails it."""

    def __init__(self, stage: Stage) -> None:
        self.has_quorum, self.is_full = True, False
        self.store, self._stage = stage.store, stage

    def lose_quorum(self, s: float) -> None:
        """No lease runs out meanwhile: the next leader gives each its whole time again."""
        self.has_quorum = False
        for half_seconds in range(int(2 * s)):
            self._stage.after(half_seconds / 2, self.store.rearm_leases)
        self._stage.after(s, self.elect)

    def elect(self) -> None:
        self.has_quorum = True
        self.store.rearm_leases()
        self._stage.tell("has a leader again, which gives each lease its whole time again", "etcd")


class Wire:
    """The `ucloud.store.contract.Store` of one process. `ails`: what happens to its next commits, one after the other.
    cut_until_s: until when nothing passes. deaf_until_s: until when the changes under a prefix don't arrive."""

    def __init__(self, process: Process, stage: Stage, etcd: Etcd) -> None:
        self.ails: list[Callable[[Happen], int]] = []
        self.cut_until_s = 0.0
        self.deaf_until_s: dict[str, float] = {}
        self.stage, self.etcd, self.process = stage, etcd, process

    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        return self.reach().list(prefix, after=after, limit=limit, revision=revision)

    def get(self, key: str) -> Item | None:
        return self.reach().get(key)

    def get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        return self.reach().get_all(keys)

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> "WireWatch":
        watch = WireWatch(self, self.reach().watch(after, wake), wake)
        self.process.connections.append(watch.close)
        return watch

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        deletes, requires = tuple(deletes), tuple(requires)
        store = self.reach()
        if self.etcd.is_full and puts:
            raise Temporary("etcd: mvcc: database space exceeded", 5.0)
        self._learn_names(puts)

        def happen() -> int:
            try:
                return store.commit(puts, deletes, requires, lease)
            except Conflict:
                raise Conflict("a requirement no longer holds") from None  # etcd does not say which

        is_bookkeeping = all(key.startswith(("lock/", "alive/", "event/")) for key in (*puts, *deletes))
        return self.ails.pop(0)(happen) if self.ails and not is_bookkeeping else happen()

    def grant(self, ttl_s: float) -> int:
        store = self.reach()
        if self.etcd.is_full:
            raise Temporary("etcd: mvcc: database space exceeded", 5.0)
        return store.grant(ttl_s)

    def keep_alive(self, lease: int) -> float:
        return self.reach().keep_alive(lease)

    def revoke(self, lease: int) -> None:
        self.reach().revoke(lease)

    def members(self) -> Sequence[StoreMember]:
        return self.etcd.store.members()

    def close(self) -> None:
        self.process.end()

    def reach(self) -> MemoryStore:
        if not self.process.alive:
            raise Killed
        if self.stage.monotonic_s() < self.cut_until_s:
            raise Temporary("etcd: Deadline Exceeded")
        if not self.etcd.has_quorum:
            raise Temporary("etcd: etcdserver: no leader")
        return self.etcd.store

    def _learn_names(self, puts: Mapping[str, bytes]) -> None:
        for key, value in puts.items():
            if key.startswith(NAMED):
                record = msgspec.json.decode(value)
                self.stage.names[record["id"]] = record["name"]

    # What may happen to a commit.

    def lose_answer(self, happen: Happen) -> int:
        happen()
        raise Temporary("etcd: Deadline Exceeded")

    def arrive_late(self, s: float, happen: Happen) -> int:
        """It is given up at once, and is carried out all the same, or not."""
        self.stage.after(s, lambda: self._arrive(happen))
        raise Temporary("etcd: Deadline Exceeded")

    def _arrive(self, happen: Happen) -> None:
        try:
            happen()
            self.stage.tell("carries out the commit that was given up", "etcd")
        except (Conflict, NotFound) as error:
            self.stage.tell(f"refuses the commit that was given up: {error.message}", "etcd")


class WireWatch:
    def __init__(self, wire: Wire, watch: Watch, wake: Callable[[], None]) -> None:
        self._wire, self._watch, self._wake = wire, watch, wake
        self._held: list[Batch] = []

    def poll(self) -> Sequence[Batch]:
        self._wire.reach()
        now_s = self._wire.stage.monotonic_s()
        batches = [*self._held, *self._watch.poll()]
        self._held = [batch for batch in batches if self._wire.deaf_until_s.get(batch.prefix, 0.0) > now_s]
        for batch in self._held:
            self._wire.stage.after(self._wire.deaf_until_s[batch.prefix] - now_s, self._wake)
        return [batch for batch in batches if batch not in self._held]

    def close(self) -> None:
        self._watch.close()
