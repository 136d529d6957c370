"""Reading records from the store, and changing them: compare and commit, again when somebody was faster, and once only
for each Idempotency-Key. Every route that writes goes through `commit`."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar, cast

import msgspec
from flask import request

from ucloud.api.services import services
from ucloud.base.clock import parse_timestamp
from ucloud.base.errors import Conflict, Error, Invalid, NotFound, Temporary
from ucloud.base.ids import is_id, is_name, new_id
from ucloud.model import keys, sense
from ucloud.model.bookkeeping import Idempotency, Unique
from ucloud.model.decision import Requirement, absent
from ucloud.model.host import Alive, Fence, Hold, Host
from ucloud.model.image import Image
from ucloud.model.key import Key
from ucloud.model.kinds import kind_of
from ucloud.model.network import Network
from ucloud.model.record import Fact, Record, decode, encode
from ucloud.store.contract import Item, Store

R = TypeVar("R", bound=Record)

PROJECT = "default"
TRIES = 5
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Source(Protocol):
    """Where records are read: a view, or the store itself."""

    def get(self, kind: type[R], key: str) -> Fact[R] | None: ...


class StoreSource:
    """Never older than an answered write."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        item = self._store.get(key)
        return _fact(kind, item) if item and kind_of(key) is kind else None


def _fact(kind: type[R], item: Item) -> Fact[R]:
    try:
        record, unknown = decode(kind, item.value)
        sense.check(item.key, record)
    except msgspec.DecodeError as error:
        raise Error(f"the record {item.key} makes no sense, an operator must mend it: {error}") from error
    return Fact(item.key, record, item.mod_revision, unknown)


def fresh() -> StoreSource:
    return StoreSource(services().store)


class ViewSource:
    """Costs the store nothing and may be a little old: for what is only shown, and for what a commit requires anyway. What
    the view does not watch is absent."""

    def __init__(self, known: Mapping[str, Fact[Record] | None] = {}) -> None:
        self._known = known  # by key; newer than the view, perhaps

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        if key in self._known:
            return cast("Fact[R] | None", self._known[key])
        with services().view.reading() as view:
            return view.get(kind, key)


class ShowSource:
    """For showing one thing: its own records are those of the store, those at `keys` read at once; how others are called and
    who is alive or declared dead is taken from the view, where it has that, as it costs the store nothing."""

    def __init__(self, *keys: str) -> None:
        self._items = dict(zip(keys, services().store.get_all(keys), strict=True))

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        if key in self._items:
            item = self._items[key]
            return _fact(kind, item) if item else None
        if kind in (Fence, Hold):
            with contextlib.suppress(Temporary):
                return ViewSource().get(kind, key)
        known = None
        if kind in (Host, Alive, Image, Network, Key):
            with contextlib.suppress(Temporary):
                known = ViewSource().get(kind, key)
        return known or get(kind, key)


def get(kind: type[R], key: str) -> Fact[R] | None:
    return fresh().get(kind, key)


def missing(noun: str, reference: str) -> NotFound:
    return NotFound(f"there is no {noun} {reference[:80]!r}", {noun: reference[:80]})


def find(noun: str, reference: str, *scope: str, source: Source | None = None) -> str:
    """The id of what is called `reference` (an id or a name). Raises NotFound. source: the store, unless told otherwise."""
    if is_id(reference) and reference.startswith(f"{noun}-"):
        return reference
    owner = (source or fresh()).get(Unique, keys.unique(noun, *scope, reference)) if is_name(reference) else None
    if owner is None:
        raise missing(noun, reference)
    return owner.record.owner


def found(kind: type[R], noun: str, reference: str, *scope: str, source: Source | None = None) -> Fact[R]:
    fact = (source or fresh()).get(kind, kind.at(find(noun, reference, *scope, source=source)))
    if fact is None:
        raise missing(noun, reference)
    return fact


class Outcome(NamedTuple):
    """What a request did, or what the first request with the same Idempotency-Key did."""

    resource: str
    verb: str
    revision: int


@dataclass
class Wish:
    """A transaction to be. Nothing to write: nothing is to be done, the resource stands at `revision` already."""

    puts: dict[str, bytes] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)
    requires: list[Requirement] = field(default_factory=list)
    revision: int = 0

    def put(self, record: Record, unknown: Mapping[str, object] | None = None) -> None:
        self.puts[record.key] = encode(record, unknown)

    def claim(self, path: str, owner: str) -> None:
        """A `unique/` or `use/` key, which must not exist yet."""
        self.put(Unique(path=path, owner=owner))
        self.requires.append(absent(path))


def commit(verb: str, resource: str, make: Callable[[], Wish]) -> Outcome:
    """Commit what `make` wishes for `resource`. It looks at the store each time anew, and raises if its wish makes no sense
    any more."""
    return _commit(verb, lambda created: resource, lambda id: make(), repeatable())


def commit_new(verb: str, kind: str, make: Callable[[str, Source], Wish]) -> Outcome:
    """The same for a resource that is yet to be made; `make` gets its id, and where to read what it rests on and requires.

    The first try reads nothing but the view, and hopes that the request is not a repeated one. If it makes no sense then or
    its commit fails, the store is asked.
    """
    again = repeatable()
    made = new_id(kind, services().clock.now_s())

    def id(created: str) -> str:
        return again.id(kind, created) if again else made

    try:
        return _try(verb, id(again.created if again else ""), lambda id: make(id, ViewSource()), again)
    except Temporary:
        raise
    except Error:
        return _commit(verb, id, lambda id: make(id, fresh()), again)


def _commit(verb: str, id: Callable[[str], str], make: Callable[[str], Wish], repeatable: "Repeatable | None") -> Outcome:
    """`id` answers the resource's id, by when the request was carried out first."""
    for _ in range(TRIES):
        if repeatable and (earlier := repeatable.earlier()):
            return Outcome(id(earlier.record.created), verb, earlier.revision)
        try:
            return _try(verb, id(repeatable.created if repeatable else ""), make, repeatable)
        except Overtaken:
            continue
        except Temporary:
            raise
        except Error:
            if repeatable is None or repeatable.earlier() is None:
                raise  # else it is the work of this very request, which another process did meanwhile, that stands in its way
    raise Conflict("others keep changing what this rests on; try again")


class Overtaken(Conflict):
    """The store is not any more as the wish requires."""


def _try(verb: str, resource: str, make: Callable[[str], Wish], repeatable: "Repeatable | None") -> Outcome:
    wish = make(resource)
    if not wish.puts and not wish.deletes:
        return Outcome(resource, verb, wish.revision)
    if repeatable:
        repeatable.remember(wish)
    try:
        return Outcome(resource, verb, services().store.commit(wish.puts, wish.deletes, wish.requires))
    except Conflict as conflict:
        raise Overtaken(conflict.message) from conflict


@dataclass(frozen=True)
class Repeatable:
    """A request with an Idempotency-Key. The revision of its record is that of the request's own transaction.

    The record outlives what the request made, so it does not name it: the id of a new resource follows from the key and the
    time, and a resource that was there before is named by the repeated request itself.
    """

    key: str
    name: str
    body: str
    created: str

    def id(self, kind: str, created: str) -> str:
        digest = hashlib.sha256(self.key.encode()).digest()
        return new_id(kind, parse_timestamp(created), lambda bits: int.from_bytes(digest) >> (256 - bits))

    def earlier(self) -> Fact[Idempotency] | None:
        """What stands there of the same request. Raises Conflict where the key was used for another one."""
        done = get(Idempotency, self.key)
        if done and done.record.body != self.body:
            raise Conflict("this Idempotency-Key was used for another request")
        return done

    def remember(self, wish: Wish) -> None:
        wish.put(Idempotency(project=PROJECT, name=self.name, body=self.body, created=self.created))
        wish.requires.append(absent(self.key))


def repeatable() -> Repeatable | None:
    """What the request's Idempotency-Key says. Raises Invalid for one that is none."""
    name = request.headers.get("Idempotency-Key")
    if name is None or request.method != "POST":
        return None
    if not IDEMPOTENCY_KEY.fullmatch(name):
        raise Invalid("Idempotency-Key: must be 1 to 128 of A-Z, a-z, 0-9, ., _, : and -")
    parts: Sequence[bytes] = (request.method.encode(), request.full_path.encode(), request.get_data(cache=True))
    body = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return Repeatable(Idempotency.at(PROJECT, name), name, body, services().now())
