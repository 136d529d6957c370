"""A key that lives as long as its process says so: the heartbeat of a host."""

from typing import Generic, TypeVar

from ucloud.base.clock import Clock
from ucloud.base.errors import NotFound
from ucloud.model.decision import Unchanged
from ucloud.model.record import Record, encode
from ucloud.store.contract import Store

R = TypeVar("R", bound=Record)


class LeasedKey(Generic[R]):
    """Keeps `record` in the store, bound to a lease. Single-threaded; nobody else writes the key. renew_s: 0: a third of ttl_s.

    renewed_s: when, on the boot clock, the last renewal that was answered was sent: the key is there for ttl_s from then on.
    """

    def __init__(self, store: Store, record: R, ttl_s: float, clock: Clock, renew_s: float = 0.0) -> None:
        self.renew_s = renew_s or ttl_s / 3
        self.record, self.renewed_s = record, 0.0
        self._store, self._ttl_s, self._clock = store, ttl_s, clock
        self._lease = 0
        self._is_put = False

    def put(self, record: R) -> None:
        """This one from the next `beat` on; under the same key."""
        assert record.key == self.record.key
        self.record, self._is_put = record, False

    def beat(self) -> bool:
        """Renew when it is time, begin anew if the lease ran out. To be called at least every `renew_s`; after Temporary
        and Conflict again soon, and if the key is not there, which the answer tells."""
        now_s = self._clock.boot_s()
        if self._lease and now_s - self.renewed_s >= self.renew_s:
            self._renew(now_s)
        if not self._lease:
            self._lease = self._store.grant(self._ttl_s)
            self.renewed_s = now_s
        if not self._is_put:
            self._put()
        return self._is_put

    def _renew(self, now_s: float) -> None:
        try:
            self._store.keep_alive(self._lease)
            self.renewed_s = now_s
        except NotFound:
            self._lease, self._is_put = 0, False

    def _put(self) -> None:
        """Over exactly what is there now: a put that was given up, by this process or one that died, may yet be carried out
        and would bind the key to a lease that nobody renews. It must fail after this one."""
        item = self._store.get(self.record.key)
        unchanged = Unchanged(self.record.key, item.mod_revision if item else 0)
        try:
            self._store.commit({self.record.key: encode(self.record)}, requires=[unchanged], lease=self._lease)
            self._is_put = True
        except NotFound:
            self._lease = 0  # it ran out just now: the next beat begins anew
