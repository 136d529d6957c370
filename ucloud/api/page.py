"""Lists in pages: `?limit=&cursor=`. The cursor is the key of the last thing shown; sorted by id is sorted by age."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ucloud.base.errors import Invalid
from ucloud.model.record import Fact, Record

R = TypeVar("R", bound=Record)

MAX_LIMIT = 1000


def limit_of(parameters: dict[str, str], default: int = 100) -> int:
    text = parameters.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise Invalid(f"limit: must be from 1 to {MAX_LIMIT}", {"limit": f"must be from 1 to {MAX_LIMIT}"})
    return int(text)


def page(
    noun: str, facts: Iterable[Fact[R]], show: Callable[[Fact[R]], dict[str, Any]], parameters: dict[str, str]
) -> dict[str, Any]:
    """`facts` sorted by key. Only what is on the page is shown, so that a page costs the same in a large cloud."""
    limit, after = limit_of(parameters), parameters.get("cursor", "")
    rest = [fact for fact in facts if fact.key > after]
    return {noun: [show(fact) for fact in rest[:limit]], "next_cursor": rest[limit - 1].key if len(rest) > limit else None}
