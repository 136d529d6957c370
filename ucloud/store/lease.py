"""A key that lives as long as its process says so: the heartbeat of a host."""

from ucloud.base.clock import Clock
from ucloud.base.errors import NotFound
from ucloud.model.decision import Unchanged
from ucloud.model.record import Record, encode
from ucloud.store.contract import Store


class LeasedKey:
    """Keeps `record` in the store, bound to a lease. Single-threaded; nobody else writes the key."""

    def __init__(self, store: Store, record: Record, ttl_s: float, clock: Clock) -> None:
        self.renew_s = ttl_s / 3
        self._store, self._record, self._ttl_s, self._clock = store, record, ttl_s, clock
        self._lease = 0
        self._renewed_s = 0.0
        self._is_put = False

    def beat(self) -> None:
        """Renew when it is time, begin anew if the lease ran out. To be called at least every `renew_s`; after Temporary
        and Conflict again soon."""
        now_s = self._clock.monotonic_s()
        if self._lease and now_s - self._renewed_s >= self.renew_s:
            self._renew(now_s)
        if not self._lease:
            self._lease = self._store.grant(self._ttl_s)
            self._renewed_s = now_s
        if not self._is_put:
            self._put()

    def _renew(self, now_s: float) -> None:
        try:
            self._store.keep_alive(self._lease)
            self._renewed_s = now_s
        except NotFound:
            self._lease, self._is_put = 0, False

    def _put(self) -> None:
        """Over exactly what is there now: a put that was given up, by this process or one that died, may yet be carried out
        and would bind the key to a lease that nobody renews. It must fail after this one."""
        item = self._store.get(self._record.key)
        unchanged = Unchanged(self._record.key, item.mod_revision if item else 0)
        try:
            self._store.commit({self._record.key: encode(self._record)}, requires=[unchanged], lease=self._lease)
            self._is_put = True
        except NotFound:
            self._lease = 0  # it ran out just now: the next beat begins anew
