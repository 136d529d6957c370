"""Leadership of a control loop: of several control processes, one at a time decides.

A lock in etcd gives no mutual exclusion by itself: a leader that stood still may wake up after its lease is gone. So
`hold` hands out a requirement that every decision must carry; the commit of a deposed leader then fails.
"""

import contextlib
import logging

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.model.bookkeeping import Lock
from ucloud.model.decision import Unchanged, absent
from ucloud.model.event import News
from ucloud.model.facts import Facts
from ucloud.model.record import encode
from ucloud.store.contract import Store
from ucloud.store.journal import Journal

log = logging.getLogger("ucloud.store.lock")


class Leadership:
    """Single-threaded: called by the loop that it is about. `owner` is unique to the process."""

    def __init__(
        self, store: Store, loop_name: str, owner: str, ttl_s: float, clock: Clock, journal: Journal | None = None
    ) -> None:
        self.renew_s = ttl_s / 3
        self._journal = journal
        self._store, self._clock, self._ttl_s = store, clock, ttl_s
        self._lock = Lock(loop=loop_name, owner=owner)
        self._lease = 0
        self._renewed_s = 0.0
        self._held: Unchanged | None = None

    def hold(self, facts: Facts) -> Unchanged | None:
        """Lead, or go on leading: what every decision must require. None while somebody else leads.

        To be called at least every `renew_s`. `facts` include `lock/`: while they show the lock of another, nothing is
        asked of the store. Raises Temporary while the store is away.
        """
        if self._held and self._is_lost(facts, self._held):
            self._lose("its lock is gone")
        if self._held:
            self._renew()
        else:
            self._acquire(facts)
        return self._held

    def release(self) -> None:
        """Let another lead at once. If the store is away, the lease runs out by itself."""
        with contextlib.suppress(Temporary):
            if self._lease:
                self._store.revoke(self._lease)
        self._held, self._lease = None, 0

    def _is_lost(self, facts: Facts, held: Unchanged) -> bool:
        if facts.seen(held.key) < held.revision:
            return False  # the view is older than our lock
        fact = facts.get(Lock, held.key)
        return fact is None or fact.revision != held.revision

    def _renew(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._renewed_s < self.renew_s:
            return
        try:
            self._store.keep_alive(self._lease)
            self._renewed_s = now_s
        except NotFound:
            self._lose("its lease ran out")

    def _acquire(self, facts: Facts) -> None:
        fact = facts.get(Lock, self._lock.key)
        if fact and fact.record.owner != self._lock.owner:
            return
        now_s = self._clock.monotonic_s()
        if not self._lease:
            self._lease = self._store.grant(self._ttl_s)
            self._renewed_s = now_s
        try:
            puts = {self._lock.key: encode(self._lock)}
            revision = self._store.commit(puts, requires=[absent(self._lock.key)], lease=self._lease)
            self._win(revision)
        except Conflict:
            self._recognize()
        except NotFound:
            self._lease = 0  # it ran out while an earlier attempt waited for its answer

    def _recognize(self) -> None:
        """The lock may be our own, from a commit whose answer was lost: the lease tells."""
        item = self._store.get(self._lock.key)
        if item and item.lease == self._lease:
            self._win(item.mod_revision)
        elif item:
            self._lease = 0

    def _win(self, revision: int) -> None:
        self._held = Unchanged(self._lock.key, revision)
        log.info("leads the %s loop from now on", self._lock.loop)
        if self._journal:
            self._journal.say(News("leads", f"{self._lock.owner} leads the {self._lock.loop} loop from now on"), self._lock.key)

    def _lose(self, why: str) -> None:
        self._held, self._lease = None, 0
        log.info("leads the %s loop no longer: %s", self._lock.loop, why)
