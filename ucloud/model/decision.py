"""A decision is data: what to write, why, and the facts it rests on. It is committed in one transaction or not at all."""

from typing import TypeAlias

import msgspec

from ucloud.model.record import Fact, Record


class Unchanged(msgspec.Struct, frozen=True):
    """`key` still has this revision; 0: it does not exist."""

    key: str
    revision: int


class NotNewer(msgspec.Struct, frozen=True):
    """No key under `prefix` was created or changed after `revision`; 0: there is none. Deletions are not noticed.

    One comparison in etcd (mod_revision < revision + 1 over a range). This is what makes a host's capacity exact:
    a placement rests on "nobody put anything else on that host since I looked", see doc/decisions/0003.
    """

    prefix: str
    revision: int


Requirement: TypeAlias = Unchanged | NotNewer


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`verb` and `key` name it for people (place vm/…); `reason` is a sentence that a user understands."""

    verb: str
    key: str
    reason: str
    puts: tuple[Record, ...] = ()
    deletes: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()


def empty(prefix: str) -> NotNewer:
    """There is no key under `prefix`."""
    return NotNewer(prefix, 0)


def absent(key: str) -> Unchanged:
    return Unchanged(key, 0)


def as_seen(key: str, fact: Fact[Record] | None) -> Unchanged:
    """What is under `key` is still what was found there: `fact`, or nothing."""
    return unchanged(fact) if fact else absent(key)


def unchanged(fact: Fact[Record]) -> Unchanged:
    return Unchanged(fact.key, fact.revision)
