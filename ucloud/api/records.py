"""Reading records from the store, and changing them: compare and commit, again when somebody was faster, and once only
for each Idempotency-Key. Every route that writes goes through `commit`."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from flask import request

from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.base.ids import is_id, is_name
from ucloud.model import keys
from ucloud.model.bookkeeping import Idempotency, Unique
from ucloud.model.decision import Requirement, absent
from ucloud.model.kinds import kind_of
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
    record, unknown = decode(kind, item.value)
    return Fact(item.key, record, item.mod_revision, unknown)


def fresh() -> StoreSource:
    return StoreSource(services().store)


def get(kind: type[R], key: str) -> Fact[R] | None:
    return fresh().get(kind, key)


def find(noun: str, reference: str, *scope: str) -> str:
    """The id of what is called `reference` (an id or a name). Raises NotFound."""
    if is_id(reference) and reference.startswith(f"{noun}-"):
        return reference
    owner = get(Unique, keys.unique(noun, *scope, reference)) if is_name(reference) else None
    if owner is None:
        raise NotFound(f"there is no {noun} {reference[:80]!r}")
    return owner.record.owner


def found(kind: type[R], noun: str, reference: str, *scope: str) -> Fact[R]:
    fact = get(kind, kind.at(find(noun, reference, *scope)))
    if fact is None:
        raise NotFound(f"there is no {noun} {reference[:80]!r}")
    return fact


class Outcome(NamedTuple):
    """What a request did, or what the first request with the same Idempotency-Key did."""

    resource: str
    verb: str
    revision: int


@dataclass
class Wish:
    """A transaction to be. No puts: nothing is to be done, the resource stands at `revision` already."""

    resource: str
    puts: dict[str, bytes] = field(default_factory=dict)
    requires: list[Requirement] = field(default_factory=list)
    revision: int = 0

    def put(self, record: Record, unknown: Mapping[str, object] | None = None) -> None:
        self.puts[record.key] = encode(record, unknown)

    def claim(self, path: str, owner: str) -> None:
        """A `unique/` or `use/` key, which must not exist yet."""
        self.put(Unique(path=path, owner=owner))
        self.requires.append(absent(path))


def commit(verb: str, make: Callable[[], Wish]) -> Outcome:
    """Commit what `make` wishes. It looks at the store each time anew, and raises if its wish makes no sense any more."""
    repeatable = _repeatable()
    for _ in range(TRIES):
        if repeatable and (earlier := repeatable.outcome()):
            return earlier
        wish = make()
        if not wish.puts:
            return Outcome(wish.resource, verb, wish.revision)
        if repeatable:
            repeatable.remember(wish, verb)
        try:
            return Outcome(wish.resource, verb, services().store.commit(wish.puts, (), wish.requires))
        except Conflict:
            continue
    raise Conflict("others keep changing what this rests on; try again")


@dataclass(frozen=True)
class Repeatable:
    """A request with an Idempotency-Key. The revision of its record is that of the request's own transaction."""

    key: str
    name: str
    body: str

    def outcome(self) -> Outcome | None:
        done = get(Idempotency, self.key)
        if done is None:
            return None
        if done.record.body != self.body:
            raise Conflict("this Idempotency-Key was used for another request")
        return Outcome(done.record.resource, done.record.action, done.revision)

    def remember(self, wish: Wish, verb: str) -> None:
        now = services().now()
        wish.put(Idempotency(project=PROJECT, name=self.name, body=self.body, resource=wish.resource, action=verb, created=now))
        wish.requires.append(absent(self.key))


def _repeatable() -> Repeatable | None:
    name = request.headers.get("Idempotency-Key")
    if name is None or request.method != "POST":
        return None
    if not IDEMPOTENCY_KEY.fullmatch(name):
        raise Invalid("Idempotency-Key: must be 1 to 128 of A-Z, a-z, 0-9, ., _, : and -")
    parts: Sequence[bytes] = (request.method.encode(), request.full_path.encode(), request.get_data(cache=True))
    return Repeatable(Idempotency.at(PROJECT, name), name, hashlib.sha256(b"\0".join(parts)).hexdigest())
