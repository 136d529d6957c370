"""Lists in pages: `?limit=&cursor=`. The cursor is the key of the last thing shown; sorted by id is sorted by age."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

from msgspec import UNSET, Struct, UnsetType

from ucloud.api.fields import Cursor, LabelFilter, Limit, Reference
from ucloud.base.errors import Invalid
from ucloud.model.record import Fact, Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class PageQuery(Struct, frozen=True, kw_only=True):
    limit: Limit = 100
    cursor: Cursor = ""


class NamedQuery(PageQuery, frozen=True, kw_only=True):
    name: Reference | UnsetType = UNSET


class LabelledQuery(NamedQuery, frozen=True, kw_only=True):
    label: LabelFilter | UnsetType = UNSET


def matching(facts: Iterable[Fact[Any]], query: NamedQuery) -> Iterable[Fact[Any]]:
    """Those that have that name, or that id, and that label."""
    if query.name is not UNSET:
        facts = (fact for fact in facts if query.name in (fact.record.name, fact.key.rpartition("/")[2]))
    if isinstance(query, LabelledQuery) and query.label is not UNSET:
        key, equals, value = query.label.partition("=")
        facts = (fact for fact in facts if key in fact.record.labels and (not equals or fact.record.labels[key] == value))
    return facts


def page(
    kind: type[R], facts: Mapping[str, Fact[R]], show: Callable[[Fact[R]], T], query: PageQuery
) -> tuple[list[T], str | None]:
    """What is on the page, and the cursor of the next one. `facts` sorted by key. No more of them is looked at than need be, so
    that a page costs the same in a large cloud."""
    check_cursor(query.cursor, kind.prefix)
    keys = list(facts)
    rest: Iterable[Fact[R]] = (facts[key] for key in islice(keys, bisect_right(keys, query.cursor), None))
    if isinstance(query, NamedQuery):
        rest = matching(rest, query)
    found = list(islice(rest, query.limit + 1))
    return [show(fact) for fact in found[: query.limit]], found[query.limit - 1].key if len(found) > query.limit else None


def check_cursor(cursor: str, prefix: str) -> None:
    """Raises Invalid for one that came from another list."""
    if cursor and (not cursor.startswith(prefix) or cursor == prefix):
        raise Invalid("cursor: must be the next_cursor of an earlier answer", {"cursor": "not of this list"})
