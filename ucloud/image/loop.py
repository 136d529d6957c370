"""The image loop of the control daemon: examines uploads and removes deleted images, in their pools and in the records.

One piece of work at each look, so that leadership and records are fresh for the next, however long one took. What a pool
cannot do now is tried again later, and does not hold up the other images.
"""

import contextlib
import logging
from collections.abc import Callable

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, Invalid, NoCapacity, Temporary
from ucloud.driver.pool.contract import Pool as PoolDriver
from ucloud.image.decide import Work, decide, failed, gone, ready
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.image import ImageState, Pool
from ucloud.store.contract import Store
from ucloud.store.lock import Leadership
from ucloud.store.view import View

log = logging.getLogger("ucloud.image")

MAX_VIRTUAL_MIB = 1024 * 1024  # 1 TiB
PERIOD_S = 10.0


class ImageLoop:
    """`view` includes image/, imagestate/, pool/, use/image/ and lock/image. `pools`: the driver of a pool."""

    name = "image"

    def __init__(
        self,
        store: Store,
        view: View,
        pools: Callable[[Pool], PoolDriver],
        clock: Clock,
        leadership: Leadership,
        max_virtual_mib: int = MAX_VIRTUAL_MIB,
    ) -> None:
        self._store, self._view, self._pools, self._clock = store, view, pools, clock
        self._leadership, self._max_virtual_mib = leadership, max_virtual_mib
        self._written = ("image/", 0)  # a key that the last commit changed, and its revision
        self._retry_at_s: dict[str, float] = {}  # image → when its pool may be asked again

    def step(self) -> float:
        self._view.refresh()
        lock = self._leadership.hold(self._view)
        pause_s = min(PERIOD_S, self._leadership.renew_s)
        if lock is None:
            return pause_s
        key, revision = self._written
        if self._view.age_s > MAX_VIEW_AGE_S or self._view.seen(key) < revision:
            return min(pause_s, 1.0)
        now_s = self._clock.monotonic_s()
        works = decide(self._view, self._clock.now_s())
        waiting = {work.image.record.id for work in works}
        self._retry_at_s = {image: at_s for image, at_s in self._retry_at_s.items() if image in waiting}
        for work in works:
            if self._retry_at_s.get(work.image.record.id, 0) <= now_s:
                self._try(work, lock)
                return 0
        return max(0.0, min([pause_s, *(at_s - now_s for at_s in self._retry_at_s.values())]))

    def _try(self, work: Work, lock: Unchanged) -> None:
        id = work.image.record.id
        try:
            decision = self._act(work)
        except Temporary as error:
            log.warning("cannot %s %s: %s; trying again in %.0f s", work.do, id, error.message, error.retry_s)
            self._retry_at_s[id] = self._clock.monotonic_s() + error.retry_s
            return
        try:
            self._commit(decision, lock)
        except Conflict:
            if work.do == "examine" and self._store.get(work.image.key) is None:
                self._pools(work.pool).remove_image(id)  # another leader removed it while this one still made it
            raise
        if any(isinstance(state, ImageState) and state.phase == "failed" for state in decision.puts):
            with contextlib.suppress(Temporary):  # then it goes when the image is deleted
                self._pools(work.pool).remove_image(id)

    def _act(self, work: Work) -> Decision:
        now_s = self._clock.now_s()
        if work.do == "give up":
            return failed(work.image, "no complete upload arrived within a day", now_s)
        pool = self._pools(work.pool)
        if work.do == "remove":
            pool.remove_image(work.image.record.id)
            return gone(work.image)
        try:
            examined = pool.publish(work.image.record.id, self._max_virtual_mib)
        except (Invalid, NoCapacity) as error:
            return failed(work.image, error.message, now_s)
        return ready(work.image, examined.format, examined.virtual_size_mib, now_s)

    def _commit(self, decision: Decision, lock: Unchanged) -> None:
        puts = {record.key: self._view.encode(record) for record in decision.puts}
        try:
            revision = self._store.commit(puts, decision.deletes, [lock, *decision.requires])
        except Temporary:
            self._view.distrust()
            raise
        self._written = (next(iter(puts), decision.key), revision)
        log.info("%s %s: %s", decision.verb, decision.key, decision.reason)
