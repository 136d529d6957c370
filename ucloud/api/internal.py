"""/v1/internal/<prefix>: the raw records, for operators: what the store holds, without secrets."""

import json
from typing import Annotated, Any

from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api.describe import describe
from ucloud.api.fields import Limit
from ucloud.api.page import PageQuery, check_cursor
from ucloud.api.services import services
from ucloud.model.key import Blob, HostBlob
from ucloud.model.kinds import kind_of
from ucloud.model.secret import without_secrets
from ucloud.store.contract import Item

routes = Blueprint("internal", __name__)


class RawQuery(PageQuery, frozen=True, kw_only=True):
    limit: Limit = 1000


class RecordShown(Struct, frozen=True):
    """A record as it is stored. lease: 0 where it is bound to none."""

    key: str
    create_revision: int
    mod_revision: int
    lease: int
    value: Annotated[Any, Meta(description="its JSON, with «secret» for what is secret; null where it is not JSON")]


class RecordPage(Struct, frozen=True):
    records: list[RecordShown]
    revision: Annotated[int, Meta(description="at which the store was read")]
    next_cursor: str | None


@routes.get("/v1/internal/", defaults={"prefix": ""})
@routes.get("/v1/internal/<path:prefix>")
@describe("List raw records", query=RawQuery, answer=RecordPage)
def list_records(prefix: str, query: RawQuery) -> RecordPage:
    """Every record whose key begins with the prefix, for operators."""
    check_cursor(query.cursor, prefix)
    listing = services().store.list(prefix, after=query.cursor, limit=query.limit)
    cursor = listing.items[-1].key if listing.more else None
    return RecordPage([show(item) for item in listing.items], listing.revision, cursor)


def show(item: Item) -> RecordShown:
    """A value that is not JSON is not shown: nobody knows what is secret in it. User data may hold secrets of its owner."""
    kind = kind_of(item.key)
    try:
        value = without_secrets(json.loads(item.value), kind)
    except ValueError:
        value = None
    if kind in (Blob, HostBlob) and isinstance(value, dict):
        value |= {"data": f"«{len(str(value.get('data', '')).rstrip('=')) * 3 // 4} bytes»"}
    return RecordShown(item.key, item.create_revision, item.mod_revision, item.lease, value)
