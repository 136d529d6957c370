"""A watch as a process meets it: it lags, splits what it brings, breaks, or falls silent with the member that feeds it."""

from collections.abc import Callable, Mapping, Sequence

from sim.etcd import Etcd, Link
from sim.process import Process
from ucloud.base.errors import Temporary
from ucloud.model.vm import Manifest
from ucloud.store.contract import Batch

BREAKS, LAGS, SPLITS = 0.005, 0.1, 0.1
LAGS_S = (0.2, 1.0, 3.0, 8.0)
SILENCE_S = 9.0  # as ucloud.store.etcd_watch, which takes a longer one for the end


class LaggingWatch:
    """Holds back what arrives under one prefix while others go on, and hands out a part of it first. `hear` is called for
    every sign of life."""

    def __init__(
        self,
        process: Process,
        etcd: Etcd,
        link: Link,
        after: Mapping[str, int],
        wake: Callable[[], None],
        hear: Callable[[], None],
    ) -> None:
        self._world, self._etcd, self._link = process.world, etcd, link
        self._watch = etcd.store.watch(after, wake)
        self._wake, self._hear = wake, hear
        self._waiting: dict[str, list[Batch]] = {}
        self._until_s: dict[str, float] = {}
        self._heard_s = self._world.monotonic_s()

    def poll(self) -> Sequence[Batch]:
        now_s = self._world.monotonic_s()
        if not self._etcd.hears(self._link):
            if now_s - self._heard_s > SILENCE_S:
                raise Temporary("the watch heard nothing for too long", 0.2)
            return []
        self._heard_s = now_s
        if self._world.happens(BREAKS * self._world.weather.lags):
            raise Temporary("the watch broke", 0.2)
        for batch in self._watch.poll():
            self._waiting.setdefault(batch.prefix, []).append(batch)
            is_behind = self._link.behind and batch.prefix == Manifest.prefix
            if self._world.happens(LAGS * self._world.weather.lags) or is_behind:
                self._lag(batch.prefix, self._world.chance.choice(LAGS_S))
        arrived: list[Batch] = []
        for prefix in list(self._waiting):
            if self._until_s.get(prefix, 0.0) <= now_s or not self._world.faulty:
                arrived += self._take(prefix)
        if arrived:
            self._hear()
        return arrived

    def close(self) -> None:
        self._watch.close()

    def _take(self, prefix: str) -> list[Batch]:
        batches = self._waiting.pop(prefix)
        if self._world.happens(SPLITS):
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
