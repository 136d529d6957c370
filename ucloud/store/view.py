"""The records that one loop needs, kept current by a watch; what its `decide` reads as `Facts`.

Single-threaded: only the loop that owns it calls it (`wake` alone comes from other threads, through the store). Between
two calls of `refresh` nothing in it changes.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, cast

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Temporary
from ucloud.model import sense
from ucloud.model.kinds import kind_of
from ucloud.model.record import Fact, Record, decode, encode
from ucloud.store.contract import Batch, Change, Compacted, Item, Store, Watch

log = logging.getLogger("ucloud.store.view")

R = TypeVar("R", bound=Record)

PAGE = 5000  # items asked for at once: an answer then takes well under a second


class View:
    """`bad`: records that could not be read, with the reason; they are left out, everything else goes on. `changed`: the
    keys that the last `refresh` brought something new of, and those before it that raised. `wake`: wakes the loop that owns
    it; any thread may call it. without: kinds that are not kept, as nobody here asks for them."""

    def __init__(
        self,
        store: Store,
        prefixes: Sequence[str],
        clock: Clock,
        wake: Callable[[], None],
        without: Collection[type[Record]] = (),
    ) -> None:
        for prefix in prefixes:
            assert sum(prefix.startswith(other) for other in prefixes) == 1, f"{prefix} is watched twice"
        self.bad: dict[str, str] = {}
        self.changed: set[str] = set()
        self._is_complete = False  # whether `changed` is that of a refresh that succeeded
        self._store, self._prefixes, self._clock, self.wake = store, tuple(prefixes), clock, wake
        self._without = without
        self._facts: dict[type[Record], dict[str, Fact[Record]]] = {}
        self._unsorted: set[type[Record]] = set()
        self._seen = dict.fromkeys(prefixes, 0)
        self._heard_s = float("-inf")
        self._trusted = False
        self._watch: Watch | None = None
        self._watch_answers = True

    @property
    def age_s(self) -> float:
        """Seconds since the store last said anything; infinite before the first listing."""
        return self._clock.monotonic_s() - self._heard_s

    def refresh(self) -> None:
        """Take in what has arrived. Raises Temporary while the store is away: the view then stays as it was."""
        self._begin_changes()
        if not self._prefixes:
            self._is_complete = True
            return
        if not self._trusted:
            self._list()
        if not self._watch:
            self._watch = self._store.watch(self._seen, self.wake)
        try:
            batches = self._watch.poll()
        except Compacted:
            self._list()
        except Temporary:
            self._end_watch()
            if not self._watch_answers:
                raise
            # The first one: its member may have died, so ask the next one at once, from the last change seen.
            self._watch_answers = False
            self._watch = self._store.watch(self._seen, self.wake)
        else:
            for batch in batches:
                self._take(batch)
        self._is_complete = True

    def cover(self, prefixes: Sequence[str]) -> None:
        """From now on the view is of these prefixes, whatever it was of before. What goes and what comes is in `changed` after
        the next `refresh`, like what others write. Raises Temporary: then the next call goes on."""
        if set(prefixes) == set(self._prefixes):
            return
        self._end_watch()
        self._begin_changes()
        wanted = tuple(prefixes)
        for key in [key for facts in self._facts.values() for key in facts if not key.startswith(wanted)]:
            self._apply(Change(key, None, 0))
        self.bad = {key: reason for key, reason in self.bad.items() if key.startswith(wanted)}
        self._seen = {prefix: self._seen.get(prefix, 0) for prefix in self._prefixes if prefix in wanted}
        self._prefixes = tuple(self._seen)
        for prefix in wanted:
            if prefix not in self._seen:
                self._add_prefix(prefix)

    def distrust(self) -> None:
        """An answer was lost: list again before the next decision, as the watch may be behind what was written."""
        self._trusted = False

    def close(self) -> None:
        self._end_watch()

    def all(self, kind: type[R]) -> Mapping[str, Fact[R]]:
        """Sorted by key; valid until the next `refresh`. Sorts only after keys were added, so that it is cheap to call."""
        if kind in self._unsorted:
            self._facts[kind] = dict(sorted(self._facts[kind].items()))
            self._unsorted.discard(kind)
        return MappingProxyType(cast("dict[str, Fact[R]]", self._facts.get(kind, {})))

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        return cast("Fact[R] | None", self._facts.get(kind, {}).get(key))

    def watches(self, key: str) -> bool:
        return any(key.startswith(prefix) for prefix in self._prefixes)

    def seen(self, prefix: str) -> int:
        """Every change of keys under `prefix` up to this revision is in. `prefix`: a watched one, or within one."""
        for watched, revision in self._seen.items():
            if prefix.startswith(watched):
                return revision
        raise AssertionError(f"{prefix} is not watched")

    def unknown(self, key: str) -> Mapping[str, Any]:
        """The fields of the record under `key` that this version does not know."""
        fact = self._fact(key)
        return fact.unknown if fact else {}

    def encode(self, record: Record) -> bytes:
        """The value to put, with the unknown fields of the record that stands there now."""
        return encode(record, self.unknown(record.key))

    def _begin_changes(self) -> None:
        if self._is_complete:
            self.changed, self._is_complete = set(), False

    def _add_prefix(self, prefix: str) -> None:
        revision = 0
        if self._trusted:  # else everything will be listed
            pages = list(self._pages(prefix, 0))
            revision = pages[0][1]
            for item in (item for page, _ in pages for item in page):
                self._apply(Change(item.key, item, item.mod_revision))
        self._seen[prefix] = revision
        self._prefixes += (prefix,)

    def _list(self) -> None:
        """Take in everything as of one revision, and watch from there."""
        self._end_watch()
        self._trusted = False
        try:
            items, revision = self._listing()
        except Compacted as error:
            raise Temporary(f"the store forgot a listing before it was complete: {error.message}", 0.1) from error
        present = {item.key for item in items}
        gone = [key for facts in self._facts.values() for key in facts if key not in present]
        for key in gone:
            self._apply(Change(key, None, revision))
        self.bad = {key: reason for key, reason in self.bad.items() if key in present}
        for item in items:
            fact = self._fact(item.key)
            if not fact or fact.revision != item.mod_revision:
                self._apply(Change(item.key, item, item.mod_revision))
        self._seen = dict.fromkeys(self._prefixes, revision)
        self._heard_s = self._clock.monotonic_s()
        self._trusted = True
        self._watch = self._store.watch(self._seen, self.wake)

    def _listing(self) -> tuple[Sequence[Item], int]:
        items: list[Item] = []
        revision = 0
        for prefix in self._prefixes:
            for page, page_revision in self._pages(prefix, revision):
                items += page
                revision = revision or page_revision
        return items, revision

    def _pages(self, prefix: str, revision: int) -> Iterator[tuple[Sequence[Item], int]]:
        after, more = "", True
        while more:
            listing = self._store.list(prefix, after=after, limit=PAGE, revision=revision)
            revision = revision or listing.revision
            yield listing.items, revision
            more = listing.more
            after = listing.items[-1].key if more else ""

    def _take(self, batch: Batch) -> None:
        for change in batch.changes:
            self._apply(change)
            self._seen[batch.prefix] = change.revision
        self._heard_s = self._clock.monotonic_s()
        self._watch_answers = True

    def _apply(self, change: Change) -> None:
        kind = kind_of(change.key)
        if kind is None or kind in self._without:
            return
        facts = self._facts.setdefault(kind, {})
        self.changed.add(change.key)
        self.bad.pop(change.key, None)
        if change.item is None:
            facts.pop(change.key, None)
            return
        try:
            record, unknown = decode(kind, change.item.value)
            sense.check(change.key, record)
        except msgspec.DecodeError as error:
            facts.pop(change.key, None)
            self.bad[change.key] = str(error)
            log.error("%s cannot be read and is left out: %s", change.key, error)
            return
        if change.key not in facts:
            self._unsorted.add(kind)
        facts[change.key] = Fact(change.key, record, change.item.mod_revision, unknown)

    def _fact(self, key: str) -> Fact[Record] | None:
        kind = kind_of(key)
        return self._facts.get(kind, {}).get(key) if kind else None

    def _end_watch(self) -> None:
        if self._watch:
            self._watch.close()
            self._watch = None
