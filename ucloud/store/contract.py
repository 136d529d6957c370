"""What ucloud needs of a store: list, watch, compare-and-commit, lease. `etcd` and `memory` both give exactly this.

Keys are text without the root (`vm/vm-01…`), values are bytes, revisions are etcd's: one counter for the whole store,
raised by every commit that changes something. Every call has a deadline. The errors are those of `ucloud.base.errors`:
Conflict (a requirement no longer holds, nothing was written), Temporary (no answer: it may or may not have happened),
Invalid (larger than the limits below: split it, nothing was written).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ucloud.base.errors import Error
from ucloud.model.decision import Requirement

MAX_OPERATIONS = 128  # etcd --max-txn-ops: bounds the number of comparisons, and the number of writes
MAX_BYTES = 1_572_864  # etcd --max-request-bytes: 1.5 MiB for a whole transaction


class Item(msgspec.Struct, frozen=True):
    """A key as it was at some revision. lease: 0 where there is none."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Listing(msgspec.Struct, frozen=True):
    """Items sorted by key, all as of `revision`; more: there are further ones behind the last."""

    items: tuple[Item, ...]
    revision: int
    more: bool = False


class Change(msgspec.Struct, frozen=True):
    """item is None: the key was deleted, at `revision`."""

    key: str
    item: Item | None
    revision: int


class Batch(msgspec.Struct, frozen=True):
    """Changes under `prefix` in the order in which they happened; a commit is never split over two batches of a prefix.

    No changes: a sign of life. Its revision is *not* one from which a watch may be resumed: etcd 3.4 before 3.4.25 may
    send it ahead of events (etcd issue 15220).
    """

    prefix: str
    changes: tuple[Change, ...]
    revision: int


class Compacted(Error):
    """The revision that was asked for is gone: list again."""

    code = "compacted"


class StoreMember(msgspec.Struct, frozen=True, kw_only=True):
    """One of the servers that make up the store. error: why it does not answer. db_bytes: what its database takes on its disk;
    quota_bytes: how large that may become, 0 where it is not known. alarms: NOSPACE (takes no more writes), CORRUPT."""

    name: str
    endpoint: str
    answers: bool = False
    error: str = ""
    leads: bool = False
    has_leader: bool = False
    version: str = ""
    db_bytes: int = 0
    quota_bytes: int = 0
    alarms: tuple[str, ...] = ()


class Watch(Protocol):
    def poll(self) -> Sequence[Batch]:
        """What has arrived since the last call, without waiting. Raises Compacted or Temporary once broken."""

    def close(self) -> None: ...


class Store(Protocol):
    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        """All items whose key starts with `prefix` (`""`: everything) and is greater than `after`, as of `revision`
        (0: now, never older than any answered commit). limit 0: all. Raises Compacted."""

    def get(self, key: str) -> Item | None:
        """Never older than any answered commit."""

    def get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        """At most MAX_OPERATIONS keys, in this order, all as of one revision that is never older than any answered commit."""

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> Watch:
        """Changes under each prefix (a whole key is a prefix too) later than its revision. `wake` is called, from any
        thread, whenever `poll` has something new, signs of life and errors included. A watch that the store no longer
        feeds breaks: it is never silent for longer than about 10 s without a sign of life."""

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        """All or nothing: if every requirement holds, write, and answer the revision at which all of it stands.
        `lease` (0: none) binds the puts. Raises Conflict, Temporary, Invalid; NotFound where the lease is gone."""

    def grant(self, ttl_s: float) -> int:
        """A new lease: keys bound to it vanish when it has not been kept alive for `ttl_s` (etcd may grant more)."""

    def keep_alive(self, lease: int) -> float:
        """Renew; answers the TTL in seconds that was granted anew. Raises NotFound when the lease is gone."""

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; harmless when it is gone already."""

    def members(self) -> Sequence[StoreMember]:
        """All servers of the store, also those that do not answer. Takes some seconds when one does not; never fails."""

    def close(self) -> None: ...
