"""How images come to be: announced and then uploaded, or cloned from another image. The image loop does the rest."""

from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec
from flask import Blueprint, request
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api.describe import describe
from ucloud.api.fields import Labels, Name, Protection, Reference, Sha256, UnixUser
from ucloud.api.image import USER, ImageAccepted, accepted, ready_image
from ucloud.api.records import PROJECT, Outcome, Source, Wish, commit, commit_new, find, found, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid, NoCapacity, NotFound
from ucloud.driver.pool.rules import no_room
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, unchanged
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Fact

routes = Blueprint("upload", __name__)

MAX_BYTES = 1024**4
CHUNK_BYTES = 64 * 1024  # larger ones are fresh memory each time, and slower


Size: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
FIXED = ("bytes", "sha256", "pool")  # the same in a clone as in its source


class ImageCreate(Struct, frozen=True):
    name: Name
    bytes: Annotated[Size | UnsetType, Meta(description="of the upload; needed unless it is a clone")] = UNSET
    sha256: Annotated[Sha256 | UnsetType, Meta(description="of the upload; needed unless it is a clone")] = UNSET
    source: Annotated[Reference | UnsetType, Meta(description="the image to clone, instead of an upload")] = UNSET
    pool: Annotated[Reference | UnsetType, Meta(description="where to keep it, if there are several")] = UNSET
    user: Annotated[UnixUser | UnsetType, Meta(description=f"{USER}; by default root, or that of the source")] = UNSET
    labels: Labels = {}
    delete_protection: Protection = False


class DataQuery(Struct, frozen=True):
    start: Annotated[
        int, Meta(ge=0, le=MAX_BYTES, description="the byte to go on from, at most the `received_bytes` of the image")
    ] = 0


class NameTaken(Conflict):
    """Perhaps by the very image that is wanted."""


@routes.post("/v1/images")
@describe("Announce or clone an image", body=ImageCreate, answer=ImageAccepted, status=201, errors=(Conflict, NoCapacity))
def create_image(body: ImageCreate) -> ImageAccepted:
    """The bytes of an announced image are uploaded next. What is announced again with the same name and content is answered as
    it stands: it may be there already, or its upload may be gone on with."""
    missing = {field: "is missing" for field in ("bytes", "sha256") if getattr(body, field) is UNSET}
    if missing and body.source is UNSET:
        raise Invalid("say bytes and sha256 of what will be uploaded, or the source of a clone", missing)
    verb = "upload" if body.source is UNSET else "clone"
    try:
        return accepted(commit_new(verb, "image", lambda id, source: _new_image(id, body, source)))
    except NameTaken:
        if same := _same(body):
            return accepted(Outcome(same.record.id, verb, same.revision))
        raise


def _new_image(id: str, wanted: ImageCreate, source: Source) -> Wish:
    name = keys.unique("image", PROJECT, wanted.name)
    if source.get(Unique, name):
        raise NameTaken(f"there is another image named {wanted.name} already", {"name": "taken"})
    wish = Wish()
    image = _announced(id, wanted, wish) if wanted.source is UNSET else _clone(id, wanted, wanted.source, source, wish)
    wish.requires.append(absent(image.key))
    wish.put(image)
    wish.claim(name, id)
    return wish


def _announced(id: str, wanted: ImageCreate, wish: Wish) -> Image:
    assert wanted.bytes is not UNSET
    assert wanted.sha256 is not UNSET
    pool = _pool("" if wanted.pool is UNSET else wanted.pool)
    free = services().pools(pool.record).free_bytes()
    if free < wanted.bytes:
        raise no_room(pool.record.name, wanted.bytes, free)
    wish.requires.append(unchanged(pool))
    return Image(
        id=id,
        name=wanted.name,
        project=PROJECT,
        pool=pool.record.name,
        bytes=wanted.bytes,
        sha256=wanted.sha256,
        user="root" if wanted.user is UNSET else wanted.user,
        labels=wanted.labels,
        delete_protection=wanted.delete_protection,
        created=services().now(),
    )


def _clone(id: str, wanted: ImageCreate, reference: str, source: Source, wish: Wish) -> Image:
    """The source stays at least until the clone is made."""
    origin, _ = ready_image(reference, source, "source")
    bad = {field: "differs from that of the source" for field in FIXED if _differs(wanted, origin.record, field)}
    if bad:
        raise Invalid("; ".join(f"{field}: {why}" for field, why in bad.items()), bad)
    wish.requires.append(unchanged(origin))
    wish.claim(keys.use("image", origin.record.id, id), id)
    now = services().now()
    return msgspec.structs.replace(
        origin.record,
        id=id,
        name=wanted.name,
        source=origin.record.id,
        user=origin.record.user if wanted.user is UNSET else wanted.user,
        labels=wanted.labels,
        delete_protection=wanted.delete_protection,
        created=now,
        uploaded_at=now,
    )


def _differs(wanted: ImageCreate, image: Image, field: str) -> bool:
    return getattr(wanted, field) not in (UNSET, getattr(image, field))


def _same(wanted: ImageCreate) -> Fact[Image] | None:
    """The image of that name, if it is what is wanted. Raises Conflict where it is, but was refused."""
    image = found(Image, "image", wanted.name, PROJECT)
    differs = any(_differs(wanted, image.record, field) for field in FIXED)
    if wanted.source is not UNSET:
        differs |= find("image", wanted.source, PROJECT) != image.record.source
    if differs or image.record.deleted_at:
        return None
    state = get(ImageState, ImageState.at(image.record.id))
    if state and state.record.phase == "failed":
        raise Conflict(f"the image {wanted.name} was refused: {state.record.error}; delete it first", {"name": "taken"})
    return image


def _pool(name: str) -> Fact[Pool]:
    """The named one, or the only one there is."""
    if name:
        pool = get(Pool, Pool.at(name))
        if pool is None:
            raise Invalid(f"pool: there is no pool {name!r}", {"pool": "unknown"})
        return pool
    items = services().store.list(Pool.prefix, limit=2).items
    if len(items) != 1:
        raise Invalid(f"pool: say which one; there {'are several' if items else 'is none yet'}", {"pool": "is missing"})
    return _pool(items[0].key.removeprefix(Pool.prefix))


@routes.put("/v1/images/<reference>/data")
@describe(
    "Upload an image",
    raw="application/octet-stream",
    query=DataQuery,
    answer=ImageAccepted,
    status=202,
    errors=(Conflict, NoCapacity),
)
def put_data(reference: str, query: DataQuery) -> ImageAccepted:
    """As many bytes as were announced, less those before `start`; with the announced checksum. They are then examined. What has
    arrived when the connection breaks is kept for a day, to be gone on with."""
    image = _uploadable(reference).record
    length = image.bytes - query.start
    if request.content_length is not None and request.content_length != length:
        raise Invalid(f"{request.content_length} bytes were sent, {length} were to come", {"bytes": "differs"})
    pool = get(Pool, Pool.at(image.pool))
    if pool is None:
        raise NotFound(f"the pool {image.pool} is gone")
    driver = services().pools(pool.record)
    with services().uploads.take():
        driver.receive(image.id, _chunks(), image.bytes, image.sha256, query.start)

    def make() -> Wish:
        try:
            fact = _uploadable(image.id)
        except NotFound:
            driver.remove_image(image.id)  # it was deleted while it was uploaded
            raise
        wish = Wish(requires=[unchanged(fact), absent(ImageState.at(image.id))])
        wish.put(msgspec.structs.replace(fact.record, uploaded_at=services().now()), fact.unknown)
        return wish

    return accepted(commit("upload", image.id, make))


def _uploadable(reference: str) -> Fact[Image]:
    image = found(Image, "image", reference, PROJECT)
    if image.record.deleted_at:
        raise NotFound(f"the image {image.record.name} was deleted")
    if image.record.uploaded_at:
        raise Conflict(f"the image {image.record.name} has its data already")
    if state := get(ImageState, ImageState.at(image.record.id)):
        raise Conflict(f"the image {image.record.name} was given up: {state.record.error}")
    return image


def _chunks() -> Iterator[bytes]:
    """Straight from the server where the length is known: what Flask puts between costs as much as the checksum."""
    request.max_content_length = MAX_BYTES
    left = request.content_length
    stream = request.stream if left is None else request.environ["wsgi.input"]
    while chunk := stream.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        yield chunk
        left = None if left is None else left - len(chunk)
