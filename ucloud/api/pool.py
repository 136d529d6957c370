"""/v1/pools: where images and disks live."""

from typing import Any

from flask import Blueprint, Response, jsonify

from ucloud.api.body import Fields, json_body, query
from ucloud.api.page import page
from ucloud.api.records import Wish, commit, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, NotFound
from ucloud.base.ids import is_name
from ucloud.model.decision import absent
from ucloud.model.image import Pool
from ucloud.model.record import Fact

routes = Blueprint("pool", __name__)


@routes.post("/v1/pools")
def create_pool() -> tuple[Response, int]:
    fields = Fields(json_body())
    name, path = fields.name(), fields.text("path", max_length=1000)
    if path and (not path.startswith("/") or ".." in path.split("/")):
        fields.refuse("path", "must be an absolute path")
    fields.done()

    def make() -> Wish:
        pool = Pool(name=name, path=path, created=services().now())
        if services().store.get(pool.key):
            raise Conflict(f"there is a pool named {name} already", {"name": "taken"})
        wish = Wish(requires=[absent(pool.key)])
        wish.put(pool)
        return wish

    return jsonify(pool=show(_found(commit("create", name, make).resource))), 201


@routes.get("/v1/pools")
def list_pools() -> Response:
    parameters = query("limit", "cursor")
    with services().view.reading() as view:
        return jsonify(page("pools", view.all(Pool).values(), show, parameters))


@routes.get("/v1/pools/<name>")
def get_pool(name: str) -> Response:
    query()
    return jsonify(pool=show(_found(name)))


def _found(name: str) -> Fact[Pool]:
    pool = get(Pool, Pool.at(name)) if is_name(name) else None
    if pool is None:
        raise NotFound(f"there is no pool {name[:80]!r}")
    return pool


def show(fact: Fact[Pool]) -> dict[str, Any]:
    pool = fact.record
    return {"name": pool.name, "kind": pool.kind, "path": pool.path, "created": pool.created}
