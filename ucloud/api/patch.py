"""What all PATCH and DELETE requests have in common: what is not named stays, a new name swaps the `unique/` key in the same
transaction, and `If-Match` is heeded."""

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import request

from ucloud.api.records import Wish, get
from ucloud.base.errors import Conflict, PreconditionFailed
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import unchanged
from ucloud.model.record import Fact, Record


def patch(fact: Fact[Any], changes: Mapping[str, Any], *scope: str) -> Wish:
    """`scope`: of the thing's name, as `keys.unique` takes it: ("vm", "default"). Raises Conflict for a name that is taken,
    PreconditionFailed as If-Match says. What is so already needs no change, and no matching tag: it may be repeated."""
    old = fact.record
    changed = msgspec.structs.replace(old, **changes)
    if changed == old:
        return Wish(revision=fact.revision)
    heed_if_match(fact)
    wish = Wish(requires=[unchanged(fact)])
    wish.put(changed, fact.unknown)
    if changed.name != old.name:
        new_name = keys.unique(*scope, changed.name)
        if get(Unique, new_name):
            raise Conflict(f"there is a {scope[0]} named {changed.name} already", {"name": "taken"})
        wish.claim(new_name, old.id)
        wish.deletes.append(keys.unique(*scope, old.name))
    return wish


def heed_if_match(fact: Fact[Record]) -> None:
    """Raises PreconditionFailed where the client has seen another revision. Weak tags never match (RFC 9110, 13.1.1)."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return
    if f'"{fact.revision}"' not in (tag.strip() for tag in wanted.split(",")):
        raise PreconditionFailed("it was changed meanwhile: read it again, then decide again")


def refuse_protected(noun: str, thing: Any) -> None:
    """`thing`: a record with a name and `delete_protection`. Raises Conflict."""
    if thing.delete_protection:
        raise Conflict(
            f"the {noun} {thing.name} is protected from deletion; lift that by PATCH with delete_protection false, or by:"
            f" ucloud {noun} set {thing.name} delete_protection=false",
            {"delete_protection": True},
        )
