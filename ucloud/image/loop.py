"""The image loop of the control daemon: examines uploads, clones images and removes deleted ones, in their pools and in the
records.

Work in a pool may take an hour, so others do it (`begin`) while the loop goes on leading; each look takes in what one of them
has finished, or begins one more. What a pool cannot do now is said in the image's state and tried again later, and does not
hold up the other images. A process that dies leaves nothing to tidy up: the next leader does the same work again.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, Error, Invalid, NoCapacity, Temporary
from ucloud.driver.pool.contract import Examined
from ucloud.driver.pool.contract import Pool as PoolDriver
from ucloud.image.decide import Work, decide, failed, gone, ready, waiting
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.event import News
from ucloud.model.image import ImageState, Pool
from ucloud.store.contract import Store
from ucloud.store.journal import Journal
from ucloud.store.lock import Leadership
from ucloud.store.view import View

log = logging.getLogger("ucloud.image")

MAX_VIRTUAL_MIB = 1024 * 1024  # 1 TiB
PERIOD_S = 10.0
AT_ONCE, LARGE_AT_ONCE = 4, 2
LARGE_BYTES = 1 << 30  # may take long: never in the way of all others
UPLOADING_S = 3600.0  # written to so lately: its upload is slow, not given up
FULL_RETRY_S, LONGEST_RETRY_S = 10.0, 600.0

Task = Callable[[], None]


def at_once(task: Task) -> None:
    task()


def in_threads(wake: Task) -> Callable[[Task], None]:
    """Each task in a thread of its own, which dies with the process; `wake` is called when it has ended."""

    def run(task: Task) -> None:
        task()
        wake()

    return lambda task: threading.Thread(target=run, args=(task,), name="image work", daemon=True).start()


class Outcome(msgspec.Struct, frozen=True):
    """What became of a piece of work. error: of ucloud, or else a bug."""

    work: Work
    examined: Examined | None = None
    error: BaseException | None = None


class ImageLoop:
    """`view` includes image/, imagestate/, pool/, use/image/ and lock/image. `pools`: the driver of a pool. `begin` runs a
    task, by and by or at once."""

    name = "image"

    def __init__(
        self,
        store: Store,
        view: View,
        pools: Callable[[Pool], PoolDriver],
        clock: Clock,
        leadership: Leadership,
        max_virtual_mib: int = MAX_VIRTUAL_MIB,
        begin: Callable[[Task], None] = at_once,
        journal: Journal | None = None,
    ) -> None:
        self._store, self._view, self._pools, self._clock = store, view, pools, clock
        self._leadership, self._max_virtual_mib = leadership, max_virtual_mib
        self._begin, self._journal = begin, journal
        self._written = ("image/", 0)  # a key that the last commit changed, and its revision
        self._running: dict[str, Work] = {}  # by image
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._retries: dict[str, tuple[int, float]] = {}  # image → how often it failed, when its pool may be asked again

    def step(self) -> float:
        self._view.refresh()
        lock = self._leadership.hold(self._view)
        with contextlib.suppress(Empty):
            self._take(self._outcomes.get_nowait(), lock)
            return 0
        pause_s = min(PERIOD_S, self._leadership.renew_s)
        if lock is None:
            return pause_s
        key, revision = self._written
        if self._view.age_s > MAX_VIEW_AGE_S or self._view.seen(key) < revision:
            return min(pause_s, 1.0)
        now_s = self._clock.monotonic_s()
        works = {work.image.record.id: work for work in decide(self._view, self._clock.now_s())}
        self._retries = {image: retry for image, retry in self._retries.items() if image in works}
        for id, work in works.items():
            if id not in self._running and self._retries.get(id, (0, 0.0))[1] <= now_s and self._has_place(work):
                self._running[id] = work
                self._begin(partial(self._do, work))
                return 0
        due_s = [at_s - now_s for id, (_, at_s) in self._retries.items() if id not in self._running]
        return max(0.0, min([pause_s, *(s for s in due_s if s > 0)]))

    def _has_place(self, work: Work) -> bool:
        large = sum(running.image.record.bytes > LARGE_BYTES for running in self._running.values())
        return len(self._running) < AT_ONCE and (work.image.record.bytes <= LARGE_BYTES or large < LARGE_AT_ONCE)

    def _do(self, work: Work) -> None:
        """May run in another thread."""
        try:
            outcome = Outcome(work, examined=self._act(work))
        except BaseException as error:
            outcome = Outcome(work, error=error)
        self._outcomes.put(outcome)

    def _act(self, work: Work) -> Examined | None:
        image = work.image.record
        try:
            pool = self._pools(work.pool)
        except Invalid as error:  # a newer control process may know what it is
            raise Temporary(error.message, retry_s=60) from error
        if work.do == "remove":
            pool.remove_image(image.id)
        elif work.do == "clone":
            return pool.clone_image(image.source, image.id)
        elif work.do == "examine":
            return pool.publish(image.id, self._max_virtual_mib)
        elif (progress := pool.progress(image.id)).received_bytes and progress.idle_s < UPLOADING_S:
            raise Temporary("it is still being uploaded", retry_s=UPLOADING_S)
        return None

    def _take(self, outcome: Outcome, lock: Unchanged | None) -> None:
        work, error = outcome.work, outcome.error
        id = work.image.record.id
        del self._running[id]
        if isinstance(error, (Temporary, NoCapacity)):
            self._retry_later(work, error)
        elif error and not isinstance(error, Invalid):
            raise error
        decision = self._decision(outcome)
        if lock is None or decision is None:
            return
        try:
            self._commit(decision, lock)
            self._tell(work, decision)
        except Conflict:
            if work.do in ("examine", "clone") and self._store.get(work.image.key) is None:
                self._pools(work.pool).remove_image(id)  # another leader removed it while this one still made it
            raise
        if any(isinstance(state, ImageState) and state.phase == "failed" for state in decision.puts):
            with contextlib.suppress(Temporary):  # then it goes when the image is deleted
                self._pools(work.pool).remove_image(id)

    def _retry_later(self, work: Work, error: Temporary | NoCapacity) -> None:
        """Twice as long with each time: making a large file again and again would leave no peace to anybody."""
        id = work.image.record.id
        times = self._retries.get(id, (0, 0.0))[0]
        first_s = error.retry_s if isinstance(error, Temporary) else FULL_RETRY_S
        pause_s = min(first_s * 2.0 ** min(times, 16), max(first_s, LONGEST_RETRY_S))
        log.warning("cannot %s %s: %s; trying again in %.0f s", work.do, id, error.message, pause_s)
        self._retries[id] = (times + 1, self._clock.monotonic_s() + pause_s)

    def _decision(self, outcome: Outcome) -> Decision | None:
        work, error, now_s = outcome.work, outcome.error, self._clock.now_s()
        if isinstance(error, Invalid):
            return failed(work, error.message, now_s)
        if isinstance(error, Error):
            return waiting(work, error.message, now_s)
        if outcome.examined:
            return ready(work, outcome.examined.format, outcome.examined.virtual_size_mib, now_s)
        return gone(work.image) if work.do == "remove" else failed(work, "no complete upload arrived within a day", now_s)

    def _commit(self, decision: Decision, lock: Unchanged) -> None:
        puts = {record.key: self._view.encode(record) for record in decision.puts}
        try:
            revision = self._store.commit(puts, decision.deletes, [lock, *decision.requires])
        except Temporary:
            self._view.distrust()
            raise
        self._written = (next(iter(puts), decision.key), revision)
        log.info("%s %s: %s", decision.verb, decision.key, decision.reason)

    def _tell(self, work: Work, decision: Decision) -> None:
        if self._journal and not (decision.verb == "waits" and work.state):  # once, however often it is tried again
            self._journal.say(News(decision.verb, decision.reason), decision.key, work.image.record.name)
