"""/v1/pools: where images and disks live."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api.body import given
from ucloud.api.describe import describe, tagged
from ucloud.api.fields import Name, Path, Timestamp
from ucloud.api.page import NamedQuery, page
from ucloud.api.patch import patch
from ucloud.api.records import Wish, commit, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.base.ids import is_name
from ucloud.model.decision import absent
from ucloud.model.image import Pool, PoolFence
from ucloud.model.record import Fact

routes = Blueprint("pool", __name__)


FENCE = "what cuts a dead host off a shared pool; none: only the operator's word"
Shared = Annotated[bool, Meta(description="all hosts have the same files there, not each its own")]
Fenced = Annotated[PoolFence, Meta(description=FENCE)]


class PoolCreate(Struct, frozen=True):
    name: Name
    path: Annotated[Path, Meta(description="a directory that each of its hosts has")]
    shared: Shared = False
    fence: Fenced = "none"


class PoolPatch(Struct, frozen=True):
    shared: Shared | UnsetType = UNSET
    fence: Fenced | UnsetType = UNSET


class PoolShown(Struct, frozen=True):
    """A pool: where images and disks live."""

    name: str
    kind: str
    path: str
    shared: Shared
    fence: Fenced
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
        pool = Pool(name=body.name, path=body.path, shared=body.shared, fence=body.fence, created=services().now())
        refuse_fence_of_local(pool)
        if services().store.get(pool.key):
            raise Conflict(f"there is a pool named {body.name} already", {"name": "taken"})
        services().pools(pool).prepare()
        wish = Wish(requires=[absent(pool.key)])
        wish.put(pool)
        return wish

    return PoolAnswer(show(_found(commit("create", body.name, make).resource)))


@routes.patch("/v1/pools/<name>")
@describe("Change a pool", body=PoolPatch, answer=PoolAnswer, tagged=True, if_match=True, errors=(Conflict,))
def patch_pool(name: str, body: PoolPatch) -> Response:
    """What is not named stays. Running guests that may outlive their host's lease may no longer if the pool gets a fence; they
    do not notice. If it loses its fence, they keep to the old rule until they are started again."""

    def change() -> Wish:
        fact = _found(name)
        refuse_fence_of_local(msgspec.structs.replace(fact.record, **given(body)))
        return patch(fact, given(body), "pool")

    commit("set", name, change)
    pool = _found(name)
    return tagged(PoolAnswer(show(pool)), pool)


@routes.get("/v1/pools")
@describe("List pools", query=NamedQuery, answer=PoolPage)
def list_pools(query: NamedQuery) -> PoolPage:
    with services().view.reading() as view:
        return PoolPage(*page(Pool, view.all(Pool), show, query))


@routes.get("/v1/pools/<name>")
@describe("Show a pool", answer=PoolAnswer, tagged=True)
def get_pool(name: str) -> Response:
    pool = _found(name)
    return tagged(PoolAnswer(show(pool)), pool)


def _found(name: str) -> Fact[Pool]:
    pool = get(Pool, Pool.at(name)) if is_name(name) else None
    if pool is None:
        raise NotFound(f"there is no pool {name[:80]!r}")
    return pool


def show(fact: Fact[Pool]) -> PoolShown:
    pool = fact.record
    return PoolShown(pool.name, pool.kind, pool.path, pool.shared, pool.fence, pool.created)


def refuse_fence_of_local(pool: Pool) -> None:
    if pool.fence != "none" and not pool.shared:
        raise Invalid(
            "fence: a pool of which each host has its own files needs none: nobody else could use them; give shared too"
        )
