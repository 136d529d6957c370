"""What is to be done with uploads and deleted images, and what to write once it is done. Pure; called by `image.loop`.

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


Do = Literal["examine", "give up", "remove"]


class Work(msgspec.Struct, frozen=True):
    """Something that hands must do to the image in its pool, before the decision about it can be written."""

    do: Do
    image: Fact[Image]
    pool: Pool


def decide(facts: Facts, now_s: float) -> list[Work]:
    """Every upload becomes ready or failed once, and a deleted image goes, though never while a VM uses it."""
    used = {key.split("/")[2] for key in facts.all(Unique) if key.startswith("use/image/")}
    works = []
    for image in facts.all(Image).values():
        pool = facts.get(Pool, Pool.at(image.record.pool))
        todo = wanted(image.record, facts.get(ImageState, ImageState.at(image.record.id)) is not None, now_s)
        if pool and todo and not (todo == "remove" and image.record.id in used):
            works.append(Work(todo, image, pool.record))
    return works


def wanted(image: Image, judged: bool, now_s: float) -> Do | None:
    if image.deleted_at:
        return "remove"
    if judged:
        return None
    if image.uploaded_at:
        return "examine"
    return "give up" if now_s - parse_timestamp(image.created) > UPLOAD_MAX_S else None


def ready(image: Fact[Image], format: str, virtual_size_mib: int, now_s: float) -> Decision:
    state = ImageState(
        image=image.record.id, phase="ready", format=format, virtual_size_mib=virtual_size_mib, since=timestamp(now_s)
    )
    return _judge(image, state, f"found to be a harmless {format} image of {virtual_size_mib} MiB")


def failed(image: Fact[Image], error: str, now_s: float) -> Decision:
    state = ImageState(image=image.record.id, phase="failed", error=error, since=timestamp(now_s))
    return _judge(image, state, f"refused: {error}")


def gone(image: Fact[Image]) -> Decision:
    """Nothing of it is in the pool any more, and nothing can come: clones compare that it is not deleted."""
    id, project, name = image.record.id, image.record.project, image.record.name
    return Decision(
        verb="forget",
        key=image.key,
        reason="deleted, and nothing of it is left in its pool",
        deletes=(image.key, ImageState.at(id), keys.unique("image", project, name)),
        requires=(unchanged(image), empty(keys.used_by("image", id))),
    )


def _judge(image: Fact[Image], state: ImageState, reason: str) -> Decision:
    requires = (unchanged(image), absent(state.key))
    return Decision(verb="examine", key=image.key, reason=reason, puts=(state,), requires=requires)
