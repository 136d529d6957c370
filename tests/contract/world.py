"""A store under test, and how its time passes: by itself for etcd, by our hand for memory."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud.base.clock import SystemClock
from ucloud.base.errors import Temporary
from ucloud.store.contract import Batch, Watch
from ucloud.store.etcd import EtcdStore
from ucloud.store.memory import MemoryStore

DEADLINE_S = 60.0


class ManualClock:
    def __init__(self) -> None:
        self.time_s = 1_000_000.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s

    def boot_s(self) -> float:
        return self.time_s


class World:
    def __init__(self, store: MemoryStore | EtcdStore, clock: ManualClock | SystemClock) -> None:
        self.store = store
        self.clock = clock

    def let_pass(self) -> None:
        if isinstance(self.clock, ManualClock):
            self.clock.time_s += 0.25
        else:
            time.sleep(0.02)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline_s = self.clock.monotonic_s() + DEADLINE_S
        while not condition():
            assert self.clock.monotonic_s() < deadline_s, "it did not happen"
            self.let_pass()

    def changes(self, watch: Watch, prefix: str, count: int) -> list[Batch]:
        """The batches of that prefix, until they hold so many changes."""
        batches: list[Batch] = []

        def complete() -> bool:
            batches.extend(batch for batch in watch.poll() if batch.prefix == prefix and batch.changes)
            return sum(len(batch.changes) for batch in batches) >= count

        self.wait_for(complete)
        return batches

    @contextmanager
    def watch(self, after: dict[str, int], wake: Callable[[], None] = lambda: None) -> Iterator[Watch]:
        watch = self.store.watch(after, wake)
        try:
            yield watch
        finally:
            watch.close()

    def revision(self) -> int:
        return self.store.list("none/").revision

    def clear(self) -> None:
        while items := self.store.list("", limit=100).items:
            self.store.commit(deletes=[item.key for item in items])


def wait_until_up(store: EtcdStore) -> None:
    for _ in range(20):
        try:
            store.get("none")
            return
        except Temporary:
            continue
    raise AssertionError("etcd did not come up")
