"""/v1/images: what there is, changes and deletion; `ucloud.api.upload` makes them, the image loop removes what was deleted."""

from typing import Annotated, Any, Literal

import msgspec
from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api import action
from ucloud.api.action import ActionShown
from ucloud.api.body import given
from ucloud.api.describe import Gone, describe, either, tagged
from ucloud.api.fields import Id, Labels, Name, Protection, Timestamp, UnixUser
from ucloud.api.page import LabelledQuery, page
from ucloud.api.patch import heed_if_match, patch, refuse_protected
from ucloud.api.records import PROJECT, Outcome, Source, Wish, commit, find, found, fresh, get
from ucloud.api.services import services
from ucloud.api.uses import refuse_used
from ucloud.base.errors import Conflict, Invalid, NotFound, Temporary
from ucloud.driver.pool.contract import Progress
from ucloud.model.decision import unchanged
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Fact
from ucloud.model.vm import Vm

routes = Blueprint("image", __name__)

USER = "as whom one logs in to VMs made of it"
Phase = Literal["uploading", "examining", "ready", "failed", "deleting"]


class ImagePatch(Struct, frozen=True):
    name: Name | UnsetType = UNSET
    labels: Annotated[Labels | UnsetType, Meta(description="all of them: those that it has are replaced")] = UNSET
    user: Annotated[UnixUser | UnsetType, Meta(description=USER)] = UNSET
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
    source: Annotated[Id | None, Meta(description="the image that it is a clone of, which it does not need any more")]
    received_bytes: Annotated[int, Meta(description="of its upload: where one can go on with it")]
    converted_bytes: Annotated[int, Meta(description="so much of a raw image has been converted, while it is examined")]
    idle_s: Annotated[
        int | None, Meta(description="for so long nobody has sent or converted anything; null if nothing is to be")
    ]
    format: Annotated[str, Meta(description="as found by examination; empty until then")]
    virtual_size_mib: int
    user: Annotated[str, Meta(description=USER)]
    labels: dict[str, str]
    delete_protection: bool
    created: Timestamp
    uploaded_at: Timestamp | None
    deleted_at: Timestamp | None
    error: Annotated[str, Meta(description="why it was refused, or why it cannot be made ready yet")]


class ImageAnswer(Struct, frozen=True):
    image: ImageShown


class ImageAccepted(Struct, frozen=True):
    image: Annotated[Any, either("ImageShown", "Gone")]
    action: ActionShown


class ImagePage(Struct, frozen=True):
    images: list[ImageShown]
    next_cursor: str | None


@routes.get("/v1/images")
@describe("List images", query=LabelledQuery, answer=ImagePage)
def list_images(query: LabelledQuery) -> ImagePage:
    with services().view.reading() as view:
        return ImagePage(*page(Image, view.all(Image), lambda fact: show(fact, view), query))


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
        unused = refuse_used("image", image.record.id, image.record.name, _name)
        wish = Wish(requires=[unchanged(image), unused])
        wish.put(msgspec.structs.replace(image.record, deleted_at=services().now()), image.unknown)
        return wish

    return accepted(commit("delete", id, make))


def _name(id: str) -> str:
    """Of a VM that was cloned from it, or of an image that is being."""
    user = get(Vm, Vm.at(id)) if id.startswith("vm-") else get(Image, Image.at(id))
    return user.record.name if user else id


def ready_image(reference: str, source: Source, field: str = "image") -> tuple[Fact[Image], int]:
    """The image that a new VM or a clone asks for in `field`, and its virtual size in MiB."""
    try:
        image = found(Image, "image", reference, PROJECT, source=source)
    except NotFound as error:
        raise Invalid(f"{field}: {error.message}", {field: error.message}) from None
    state = source.get(ImageState, ImageState.at(image.record.id))
    phase = phase_of(image.record, state.record if state else None)
    if phase == "ready" and state:
        return image, state.record.virtual_size_mib
    why = f": {state.record.error}" if state and state.record.error else ""
    raise Conflict(f"the image {image.record.name} cannot be used, it is {phase}{why}", {field: phase})


def phase_of(image: Image, state: ImageState | None) -> Phase:
    if image.deleted_at:
        return "deleting"
    if state:
        return state.phase
    return "examining" if image.uploaded_at else "uploading"


def _found(reference: str) -> Fact[Image]:
    return found(Image, "image", reference, PROJECT)


def accepted(outcome: Outcome) -> ImageAccepted:
    source = fresh()
    image = get(Image, Image.at(outcome.resource))
    return ImageAccepted(show(image, source) if image else Gone(outcome.resource), action.show(outcome, source))


def show(fact: Fact[Image], source: Source) -> ImageShown:
    image = fact.record
    found = source.get(ImageState, ImageState.at(image.id))
    state = found.record if found else None
    phase = phase_of(image, state)
    progress = _progress(image, source) if phase in ("uploading", "examining") and not image.source else None
    return ImageShown(
        id=image.id,
        name=image.name,
        project=image.project,
        phase=phase,
        pool=image.pool,
        bytes=image.bytes,
        sha256=image.sha256,
        source=image.source or None,
        received_bytes=image.bytes if image.uploaded_at else progress.received_bytes if progress else 0,
        converted_bytes=progress.made_bytes if progress else 0,
        idle_s=round(progress.idle_s) if progress else None,
        format=state.format if state else "",
        virtual_size_mib=state.virtual_size_mib if state else 0,
        user=image.user,
        labels=image.labels,
        delete_protection=image.delete_protection,
        created=image.created,
        uploaded_at=image.uploaded_at or None,
        deleted_at=image.deleted_at or None,
        error=state.error if state else "",
    )


def _progress(image: Image, source: Source) -> Progress | None:
    """None while its pool cannot be asked."""
    pool = source.get(Pool, Pool.at(image.pool))
    try:
        return services().pools(pool.record).progress(image.id) if pool else None
    except (Temporary, Invalid):
        return None
