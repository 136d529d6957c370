"""/v1/images: announce an image, upload its bytes, and from then on clone VMs from it. The image loop examines uploads
and removes what was deleted."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api import action
from ucloud.api.action import ActionShown
from ucloud.api.body import given
from ucloud.api.describe import Gone, describe, either, tagged
from ucloud.api.fields import Id, Labels, Name, Protection, Reference, Sha256, Timestamp
from ucloud.api.page import LabelledQuery, matching, page
from ucloud.api.patch import heed_if_match, patch, refuse_protected
from ucloud.api.records import PROJECT, Outcome, Source, Wish, commit, commit_new, find, found, fresh, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, empty, unchanged
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Vm

routes = Blueprint("image", __name__)

MAX_BYTES = 1024**4
CHUNK_BYTES = 256 * 1024

Phase = Literal["uploading", "examining", "ready", "failed", "deleting"]


class ImageCreate(Struct, frozen=True):
    name: Name
    bytes: Annotated[int, Meta(ge=1, le=MAX_BYTES, description="size of the upload")]
    sha256: Annotated[Sha256, Meta(description="of the upload")]
    pool: Annotated[Reference | UnsetType, Meta(description="where to keep it, if there are several")] = UNSET
    labels: Labels = {}
    delete_protection: Protection = False


class ImagePatch(Struct, frozen=True):
    name: Name | UnsetType = UNSET
    labels: Annotated[Labels | UnsetType, Meta(description="all of them: those that it has are replaced")] = UNSET
    delete_protection: Protection | UnsetType = UNSET


class ImageShown(Struct, frozen=True, kw_only=True):
    """An image: what VMs' disks are cloned from."""

    id: Id
    name: str
    project: str
    phase: Phase
    pool: str
    bytes: int
    sha256: str
    format: Annotated[str, Meta(description="as found by examination; empty until then")]
    virtual_size_mib: int
    labels: dict[str, str]
    delete_protection: bool
    created: Timestamp
    uploaded_at: Timestamp | None
    deleted_at: Timestamp | None
    error: str


class ImageAnswer(Struct, frozen=True):
    image: ImageShown


class ImageAccepted(Struct, frozen=True):
    image: Annotated[Any, either("ImageShown", "Gone")]
    action: ActionShown


class ImagePage(Struct, frozen=True):
    images: list[ImageShown]
    next_cursor: str | None


@routes.post("/v1/images")
@describe("Announce an image", body=ImageCreate, answer=ImageAccepted, status=201, errors=(Conflict,))
def create_image(body: ImageCreate) -> ImageAccepted:
    """Its bytes are uploaded next."""
    return _answer(commit_new("upload", "image", lambda id, source: _new_image(id, body, source)))


def _new_image(id: str, wanted: ImageCreate, source: Source) -> Wish:
    name = wanted.name
    unique_name = keys.unique("image", PROJECT, name)
    if taken := source.get(Unique, unique_name):
        earlier = source.get(Image, Image.at(taken.record.owner))
        is_open = earlier is not None and not earlier.record.uploaded_at
        ended = ", whose upload has not ended; if nobody is at it any more, delete it" if is_open else ""
        raise Conflict(f"there is an image named {name} already{ended}", {"name": "taken"})
    chosen = _pool("" if wanted.pool is UNSET else wanted.pool)
    image = Image(
        id=id,
        name=name,
        project=PROJECT,
        pool=chosen.record.name,
        bytes=wanted.bytes,
        sha256=wanted.sha256,
        labels=wanted.labels,
        delete_protection=wanted.delete_protection,
        created=services().now(),
    )
    wish = Wish(requires=[absent(image.key), unchanged(chosen)])
    wish.put(image)
    wish.claim(unique_name, image.id)
    return wish


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
@describe("Upload an image", raw="application/octet-stream", answer=ImageAccepted, status=202, errors=(Conflict,))
def put_data(reference: str) -> ImageAccepted:
    """As many bytes as were announced, with the announced checksum. They are then examined."""
    image = _uploadable(reference).record
    if request.content_length is not None and request.content_length != image.bytes:
        raise Invalid(f"{request.content_length} bytes were sent, {image.bytes} announced", {"bytes": "differs"})
    pool = get(Pool, Pool.at(image.pool))
    if pool is None:
        raise NotFound(f"the pool {image.pool} is gone")
    driver = services().pools(pool.record)
    with services().uploads.take():
        driver.receive(image.id, _chunks(), image.bytes, image.sha256)

    def make() -> Wish:
        try:
            fact = _uploadable(image.id)
        except NotFound:
            driver.remove_image(image.id)  # it was deleted while it was uploaded
            raise
        wish = Wish(requires=[unchanged(fact), absent(ImageState.at(image.id))])
        wish.put(msgspec.structs.replace(fact.record, uploaded_at=services().now()), fact.unknown)
        return wish

    return _answer(commit("upload", image.id, make))


def _uploadable(reference: str) -> Fact[Image]:
    image = _found(reference)
    if image.record.deleted_at:
        raise NotFound(f"the image {image.record.name} was deleted")
    if image.record.uploaded_at:
        raise Conflict(f"the image {image.record.name} has its data already")
    if state := get(ImageState, ImageState.at(image.record.id)):
        raise Conflict(f"the image {image.record.name} was given up: {state.record.error}")
    return image


def _chunks() -> Iterator[bytes]:
    request.max_content_length = MAX_BYTES
    while chunk := request.stream.read(CHUNK_BYTES):
        yield chunk


@routes.get("/v1/images")
@describe("List images", query=LabelledQuery, answer=ImagePage)
def list_images(query: LabelledQuery) -> ImagePage:
    with services().view.reading() as view:
        return ImagePage(*page(Image, matching(view.all(Image).values(), query), lambda fact: show(fact, view), query))


@routes.get("/v1/images/<reference>")
@describe("Show an image", answer=ImageAnswer, tagged=True)
def get_image(reference: str) -> Response:
    image = _found(reference)
    return tagged(ImageAnswer(show(image, fresh())), image)


@routes.patch("/v1/images/<reference>")
@describe("Change an image", body=ImagePatch, answer=ImageAnswer, tagged=True, if_match=True, errors=(Conflict,))
def patch_image(reference: str, body: ImagePatch) -> Response:
    """What is not named stays."""
    id = find("image", reference, PROJECT)

    def make() -> Wish:
        image = _found(id)
        if image.record.deleted_at:
            raise Conflict("the image is being deleted")
        return patch(image, given(body), "image", PROJECT)

    image = _found(commit("set", id, make).resource)
    return tagged(ImageAnswer(show(image, fresh())), image)


@routes.delete("/v1/images/<reference>")
@describe("Delete an image", answer=ImageAccepted, status=202, if_match=True, errors=(Conflict,))
def delete_image(reference: str) -> ImageAccepted:
    """Refused while it is protected, and while VMs use it."""
    id = find("image", reference, PROJECT)

    def make() -> Wish:
        image = _found(id)
        if image.record.deleted_at:
            return Wish(revision=image.revision)
        heed_if_match(image)
        refuse_protected("image", image.record)
        used_by = keys.used_by("image", image.record.id)
        if users := _users(used_by):
            raise Conflict(f"the image {image.record.name} is used by {', '.join(users)}", {"used_by": users})
        wish = Wish(requires=[unchanged(image), empty(used_by)])
        wish.put(msgspec.structs.replace(image.record, deleted_at=services().now()), image.unknown)
        return wish

    return _answer(commit("delete", id, make))


def _users(prefix: str) -> list[str]:
    """The names of some of the VMs that were cloned from it."""
    listing = services().store.list(prefix, limit=10)
    ids = [item.key.removeprefix(prefix) for item in listing.items]
    vms = [(id, get(Vm, Vm.at(id))) for id in ids]
    return [vm.record.name if vm else id for id, vm in vms] + (["others"] if listing.more else [])


def ready_image(reference: str, source: Source) -> tuple[Fact[Image], int]:
    """The image that a new VM asks for, and its virtual size in MiB."""
    try:
        image = found(Image, "image", reference, PROJECT, source=source)
    except NotFound as error:
        raise Invalid(f"image: {error.message}", {"image": error.message}) from None
    state = source.get(ImageState, ImageState.at(image.record.id))
    phase = phase_of(image.record, state.record if state else None)
    if phase == "ready" and state:
        return image, state.record.virtual_size_mib
    why = f": {state.record.error}" if state and phase == "failed" else ""
    raise Conflict(f"the image {image.record.name} cannot be used, it is {phase}{why}", {"image": phase})


def phase_of(image: Image, state: ImageState | None) -> Phase:
    if image.deleted_at:
        return "deleting"
    if state:
        return state.phase
    return "examining" if image.uploaded_at else "uploading"


def _found(reference: str) -> Fact[Image]:
    return found(Image, "image", reference, PROJECT)


def _answer(outcome: Outcome) -> ImageAccepted:
    source = fresh()
    image = get(Image, Image.at(outcome.resource))
    return ImageAccepted(show(image, source) if image else Gone(outcome.resource), action.show(outcome, source))


def show(fact: Fact[Image], source: Source) -> ImageShown:
    image = fact.record
    found = source.get(ImageState, ImageState.at(image.id))
    state = found.record if found else None
    return ImageShown(
        id=image.id,
        name=image.name,
        project=image.project,
        phase=phase_of(image, state),
        pool=image.pool,
        bytes=image.bytes,
        sha256=image.sha256,
        format=state.format if state else "",
        virtual_size_mib=state.virtual_size_mib if state else 0,
        labels=image.labels,
        delete_protection=image.delete_protection,
        created=image.created,
        uploaded_at=image.uploaded_at or None,
        deleted_at=image.deleted_at or None,
        error=state.error if state else "",
    )
