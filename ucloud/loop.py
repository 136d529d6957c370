"""Loops: look, decide, act, sleep until woken. The only file that sleeps.

A wake-up says "look again", never what changed. `run` gives each loop a thread of its own; the simulator calls `step`
itself. `Decider` is the loop of everything that only writes records (scheduler, later host manager, payment, …).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, Temporary
from ucloud.model.bookkeeping import Lock
from ucloud.model.decision import Decision, NotNewer, Requirement, Unchanged
from ucloud.model.facts import Facts
from ucloud.model.record import Record, encode
from ucloud.store.contract import MAX_OPERATIONS, Store
from ucloud.store.lock import Leadership
from ucloud.store.view import View

log = logging.getLogger("ucloud.loop")

MAX_DECISIONS = 16  # in one transaction: one that fails holds up no more than these
MAX_BYTES = 1024 * 1024  # of its puts, without fields of other versions; a store takes half as much again
MAX_VIEW_AGE_S = 15.0  # a watch is silent for 10 s at most; an older view may be of another time
MAX_REST_S = 0.1


class Loop(Protocol):
    name: str

    def step(self) -> float:
        """Look once at everything; return after how many seconds to look again, unless woken earlier."""


def run(loop: Loop, woken: threading.Event, stop: threading.Event) -> None:
    """Step until `stop` is set (set `woken` too, to notice it at once). Anything but Conflict and Temporary is a bug
    and ends the loop. After a step it rests for as long as that took: what arrives meanwhile is taken in together."""
    while True:
        woken.clear()  # before looking at `stop`, lest the wake-up that goes with it is lost
        if stop.is_set():
            return
        began_s = time.monotonic()
        try:
            pause_s = loop.step()
        except Conflict:
            pause_s = 0.05  # somebody was faster; the watch brings what they wrote
        except Temporary as error:
            log.warning("%s: %s; trying again in %.1f s", loop.name, error.message, error.retry_s)
            stop.wait(error.retry_s)  # deaf to wake-ups: a broken watch wakes without end
            continue
        took_s = time.monotonic() - began_s
        if woken.wait(pause_s):
            stop.wait(min(took_s, MAX_REST_S))


def run_all(loops: Sequence[tuple[Loop, threading.Event]], stop: threading.Event) -> None:
    """Run every loop in a thread of its own until `stop`. A bug in one stops all and is raised here: the process dies of
    it and its supervisor starts a fresh one."""
    bugs: list[BaseException] = []

    def body(loop: Loop, woken: threading.Event) -> None:
        try:
            run(loop, woken, stop)
        except BaseException as bug:
            bugs.append(bug)
            stop.set()

    threads = [threading.Thread(target=body, args=pair, name=pair[0].name, daemon=True) for pair in loops]
    for thread in threads:
        thread.start()
    stop.wait()
    for _, woken in loops:
        woken.set()
    for thread in threads:
        thread.join(timeout=5)
    if bugs:
        raise bugs[0]


class Report(Protocol):
    """Tells people what a loop sees and decides, at once and without ever failing."""

    def looked(self, facts: Facts, leads: bool) -> None:
        """leads: False while this process only stands by: then another one tells it."""

    def decided(self, facts: Facts, decision: Decision) -> None:
        """The decision stands; `facts` are those that it was made from."""


class Decider:
    """A loop whose only act is to commit decisions. It decides when records have changed, and every `period_s`.

    leadership: only the leader decides, and every decision rests on its lock; None: nobody else writes these records.
    period_s: may be a function, which is asked before each pause.
    heeds_changes: False where only the passing of time matters.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        view: View,
        decide: Callable[[Facts, float], Sequence[Decision]],
        clock: Clock,
        leadership: Leadership | None = None,
        period_s: float | Callable[[], float] = 10.0,
        report: Report | None = None,
        heeds_changes: bool = True,
    ) -> None:
        self.name = name
        self._report = report
        self._store, self._view, self._decide, self._clock = store, view, decide, clock
        self._leadership, self._heeds_changes = leadership, heeds_changes
        self._period_s = period_s if callable(period_s) else lambda: period_s
        self._due_s = float("-inf")  # when to decide again
        self._written: dict[str, int] = {}  # key → revision: what this loop wrote and has not seen come back yet
        self._wrote_s = 0.0

    def step(self) -> float:
        self._refresh()
        pause_s = float("inf")
        lock: tuple[Unchanged, ...] = ()
        if self._leadership:
            held = self._leadership.hold(self._view)
            pause_s = self._leadership.renew_s
            if self._report:
                self._report.looked(self._view, held is not None)
            if held is None:
                self._due_s = float("-inf")
                return min(pause_s, self._period_s())
            lock = (held,)
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return min(pause_s, self._due_s - now_s)
        if not self._may_decide():
            return min(pause_s, 1.0)
        self._due_s = float("-inf")  # until all of it is committed
        if not self._commit_all(self._decide(self._view, self._clock.now_s()), lock):
            return 0.05
        period_s = self._period_s()
        self._due_s = now_s + period_s
        return min(pause_s, period_s)

    def _refresh(self) -> None:
        self._view.refresh()
        if self._heeds_changes and any(not key.startswith(Lock.prefix) for key in self._view.changed):
            self._due_s = float("-inf")

    def _may_decide(self) -> bool:
        """Never on a view that is old, or that lacks what this loop itself has written."""
        view = self._view
        self._written = {key: revision for key, revision in self._written.items() if view.seen(key) < revision}
        if self._written and self._clock.monotonic_s() - self._wrote_s > MAX_VIEW_AGE_S:
            view.distrust()  # it never will: what was deleted had not been there, say
        return not self._written and view.age_s <= MAX_VIEW_AGE_S

    def _commit_all(self, decisions: Sequence[Decision], lock: tuple[Unchanged, ...]) -> bool:
        """Commit what still holds; False if anything did not, or if another leads meanwhile. An answer that was lost ends the
        pass: read again first."""
        raised: dict[str, int] = {}
        waiting = list(batches(decisions))[::-1]
        complete = True
        while waiting:
            batch = waiting.pop()
            try:
                self._commit(batch, lock, raised)
            except Conflict as conflict:
                complete = False
                if len(batch) > 1:
                    half = len(batch) // 2
                    waiting += [batch[half:], batch[:half]]
                else:
                    log.info("%s: %s %s no longer holds: %s", self.name, batch[0].verb, batch[0].key, conflict.message)
            except Temporary:
                self._view.distrust()
                raise
            if self._leadership and self._leadership.hold(self._view) is None:  # a long pass renews its lease
                return False
        return complete

    def _commit(self, batch: Sequence[Decision], lock: tuple[Unchanged, ...], raised: dict[str, int]) -> None:
        """`raised`: prefixes and keys that an earlier transaction of this pass found unchanged and then wrote itself. What
        it left behind is known, so later decisions rest on its revision."""
        requires = [*lock, *(r for decision in batch for r in decision.requires)]
        requires = list(dict.fromkeys(raise_to(requirement, raised) for requirement in requires))
        records = {record.key: record for decision in batch for record in decision.puts}
        puts = {key: self._view.encode(record) for key, record in records.items()}
        deletes = [key for decision in batch for key in decision.deletes]
        revision = self._store.commit(puts, deletes, requires)
        for requirement in requires:
            if isinstance(requirement, NotNewer) and any(key.startswith(requirement.prefix) for key in puts):
                raised[requirement.prefix] = revision
            elif isinstance(requirement, Unchanged) and requirement.key in puts:
                raised[requirement.key] = revision
        self._wrote_s = self._clock.monotonic_s()
        self._written |= {key: revision for key in (*puts, *deletes) if self._view.watches(key)}
        for decision in batch:
            log.info("%s %s: %s", decision.verb, decision.key, decision.reason)
            if self._report:
                self._report.decided(self._view, decision)


def raise_to(requirement: Requirement, raised: dict[str, int]) -> Requirement:
    if isinstance(requirement, NotNewer) and requirement.prefix in raised:
        return NotNewer(requirement.prefix, max(requirement.revision, raised[requirement.prefix]))
    if isinstance(requirement, Unchanged) and requirement.key in raised:
        return Unchanged(requirement.key, raised[requirement.key])
    return requirement


def batches(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """Decisions that fit into one transaction, in order; no key is written twice in one, unless the same is put there."""
    batch: list[Decision] = []
    written: dict[str, Record | None] = {}
    requirements: set[Requirement] = set()
    bytes_left = MAX_BYTES
    for decision in decisions:
        own: dict[str, Record | None] = {**{record.key: record for record in decision.puts}, **dict.fromkeys(decision.deletes)}
        needs = requirements | set(decision.requires)
        size = sum(len(encode(record)) for key, record in own.items() if record and key not in written)
        clashes = any(key in written and (record is None or written[key] != record) for key, record in own.items())
        full = len(batch) == MAX_DECISIONS or len(needs) + 1 > MAX_OPERATIONS or len(written | own) > MAX_OPERATIONS
        if batch and (clashes or full or size > bytes_left):
            yield batch
            batch, written, needs, bytes_left = [], {}, set(decision.requires), MAX_BYTES
            size = sum(len(encode(record)) for record in decision.puts)
        batch.append(decision)
        written, requirements, bytes_left = written | own, needs, bytes_left - size
    if batch:
        yield batch
