"""/v1/internal/<prefix>: the raw records, for operators: what the store holds, without secrets."""

import json
from typing import Any

from flask import Blueprint, Response, jsonify

from ucloud.api.body import query
from ucloud.api.page import limit_of
from ucloud.api.services import services
from ucloud.model.host import without_secrets
from ucloud.store.contract import Item

routes = Blueprint("internal", __name__)


@routes.get("/v1/internal/", defaults={"prefix": ""})
@routes.get("/v1/internal/<path:prefix>")
def list_records(prefix: str) -> Response:
    parameters = query("limit", "cursor")
    limit = limit_of(parameters, default=1000)
    listing = services().store.list(prefix, after=parameters.get("cursor", ""), limit=limit)
    cursor = listing.items[-1].key if listing.more else None
    return jsonify(records=[show(item) for item in listing.items], revision=listing.revision, next_cursor=cursor)


def show(item: Item) -> dict[str, Any]:
    """A value that is not JSON is not shown: nobody knows what is secret in it."""
    try:
        value = without_secrets(json.loads(item.value))
    except ValueError:
        value = None
    revisions = {"create_revision": item.create_revision, "mod_revision": item.mod_revision}
    return {"key": item.key, **revisions, "lease": item.lease, "value": value}
