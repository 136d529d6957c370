"""What is to be done with uploads, clones and deleted images, and what to write once it is done. Pure; called by `image.loop`.

Files in a pool that no record names are left alone: a store that was restored or replaced knows nothing of images that
people still need (absence is no fact). They can only arise when a process dies while an image is uploaded and deleted
at the same time.
"""

from typing import Literal

import msgspec

from ucloud.base.clock import parse_timestamp, timestamp
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Decision, absent, empty, unchanged
from ucloud.model.facts import Facts
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Fact

UPLOAD_MAX_S = 24 * 3600.0

Do = Literal["examine", "clone", "give up", "remove"]


class Work(msgspec.Struct, frozen=True):
    """Something that hands must do to the image in its pool, before the decision about it can be written. state: what
    stands of it so far."""

    do: Do
    image: Fact[Image]
    pool: Pool
    state: Fact[ImageState] | None = None


def decide(facts: Facts, now_s: float) -> list[Work]:
    """Every upload becomes ready or failed once, and a deleted image goes, though never while anybody uses it."""
    used = {key.split("/")[2] for key in facts.all(Unique) if key.startswith("use/image/")}
    works = []
    for image in facts.all(Image).values():
        pool = facts.get(Pool, Pool.at(image.record.pool))
        state = facts.get(ImageState, ImageState.at(image.record.id))
        todo = wanted(image.record, state.record if state else None, now_s)
        if pool and todo and not (todo == "remove" and image.record.id in used):
            works.append(Work(todo, image, pool.record, state))
    return works


def wanted(image: Image, state: ImageState | None, now_s: float) -> Do | None:
    if image.deleted_at:
        return "remove"
    if state and state.phase != "examining":
        return None
    if image.source:
        return "clone"
    if image.uploaded_at:
        return "examine"
    return "give up" if now_s - parse_timestamp(image.created) > UPLOAD_MAX_S else None


def ready(work: Work, format: str, virtual_size_mib: int, now_s: float) -> Decision:
    id, source = work.image.record.id, work.image.record.source
    state = ImageState(image=id, phase="ready", format=format, virtual_size_mib=virtual_size_mib, since=timestamp(now_s))
    found = f"cloned from {source}" if source else f"found to be a harmless {format} image of {virtual_size_mib} MiB"
    return _judge(work, "ready", state, found)


def failed(work: Work, error: str, now_s: float) -> Decision:
    state = ImageState(image=work.image.record.id, phase="failed", error=error, since=timestamp(now_s))
    return _judge(work, "failed", state, error)


def waiting(work: Work, error: str, now_s: float) -> Decision | None:
    """Tried and to be tried again; None where this stands there already, or nobody waits for it."""
    if work.do not in ("examine", "clone") or (work.state and work.state.record.error == error):
        return None
    state = ImageState(image=work.image.record.id, phase="examining", error=error, since=timestamp(now_s))
    return _write(work, "waits", state, error)


def gone(image: Fact[Image]) -> Decision:
    """Nothing of it is in the pool any more, and nothing can come: clones compare that it is not deleted."""
    id, project, name = image.record.id, image.record.project, image.record.name
    return Decision(
        verb="removed",
        key=image.key,
        reason="deleted, and nothing of it is left in its pool",
        deletes=(image.key, ImageState.at(id), keys.unique("image", project, name), *_uses(image.record)),
        requires=(unchanged(image), empty(keys.used_by("image", id))),
    )


def _judge(work: Work, verb: str, state: ImageState, reason: str) -> Decision:
    """Its source, if it has one, may go from now on."""
    return msgspec.structs.replace(_write(work, verb, state, reason), deletes=_uses(work.image.record))


def _write(work: Work, verb: str, state: ImageState, reason: str) -> Decision:
    requires = (unchanged(work.image), unchanged(work.state) if work.state else absent(state.key))
    return Decision(verb=verb, key=work.image.key, reason=reason, puts=(state,), requires=requires)


def _uses(image: Image) -> tuple[str, ...]:
    return (keys.use("image", image.source, image.id),) if image.source else ()
