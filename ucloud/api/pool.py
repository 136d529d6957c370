"""/v1/pools: where images and disks live."""

from typing import Annotated

from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api.describe import describe
from ucloud.api.fields import Name, Path, Timestamp
from ucloud.api.page import NamedQuery, page
from ucloud.api.records import Wish, commit, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, NotFound
from ucloud.base.ids import is_name
from ucloud.model.decision import absent
from ucloud.model.image import Pool
from ucloud.model.record import Fact

routes = Blueprint("pool", __name__)


class PoolCreate(Struct, frozen=True):
    name: Name
    path: Annotated[Path, Meta(description="a directory that each of its hosts has")]


class PoolShown(Struct, frozen=True):
    """A pool: where images and disks live."""

    name: str
    kind: str
    path: str
    created: Timestamp


class PoolAnswer(Struct, frozen=True):
    pool: PoolShown


class PoolPage(Struct, frozen=True):
    pools: list[PoolShown]
    next_cursor: str | None


@routes.post("/v1/pools")
@describe("Add a pool", body=PoolCreate, answer=PoolAnswer, status=201, errors=(Conflict,))
def create_pool(body: PoolCreate) -> PoolAnswer:
    """Its directory is made, or must be empty."""

    def make() -> Wish:
        pool = Pool(name=body.name, path=body.path, created=services().now())
        if services().store.get(pool.key):
            raise Conflict(f"there is a pool named {body.name} already", {"name": "taken"})
        services().pools(pool).prepare()
        wish = Wish(requires=[absent(pool.key)])
        wish.put(pool)
        return wish

    return PoolAnswer(show(_found(commit("create", body.name, make).resource)))


@routes.get("/v1/pools")
@describe("List pools", query=NamedQuery, answer=PoolPage)
def list_pools(query: NamedQuery) -> PoolPage:
    with services().view.reading() as view:
        return PoolPage(*page(Pool, view.all(Pool), show, query))


@routes.get("/v1/pools/<name>")
@describe("Show a pool", answer=PoolAnswer)
def get_pool(name: str) -> PoolAnswer:
    return PoolAnswer(show(_found(name)))


def _found(name: str) -> Fact[Pool]:
    pool = get(Pool, Pool.at(name)) if is_name(name) else None
    if pool is None:
        raise NotFound(f"there is no pool {name[:80]!r}")
    return pool


def show(fact: Fact[Pool]) -> PoolShown:
    pool = fact.record
    return PoolShown(pool.name, pool.kind, pool.path, pool.created)
