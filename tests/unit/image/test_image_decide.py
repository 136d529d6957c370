"""Which images need work, by what their records say."""

from typing import Any

import pytest

from tests.unit.world import NOW_S, World, pool
from ucloud.base.clock import timestamp
from ucloud.image.decide import Work, decide, failed, gone, ready, waiting
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, empty, unchanged
from ucloud.model.image import Image, ImageState
from ucloud.model.record import Record
from ucloud.store.view import View

HOUR_S = 3600.0
NOW, HOUR_AGO, DAYS_AGO = (timestamp(NOW_S - hours * HOUR_S) for hours in (0, 1, 49))
READS = ("image/", "imagestate/", "pool/", "use/image/", "lock/image")


def image(**changes: str) -> Image:
    plain: dict[str, Any] = {"id": "image-a", "name": "a", "pool": "local", "created": HOUR_AGO}
    return Image(bytes=1, sha256="0", **{**plain, **changes})


READY = ImageState(image="image-a", phase="ready", since=NOW)
WAITING = ImageState(image="image-a", phase="examining", error="pool local is full", since=NOW)
USED = Unique(path=keys.use("image", "image-a", "vm-a"), owner="vm-a")


@pytest.mark.parametrize(
    ("records", "work"),
    [
        ([image()], []),
        ([image(uploaded_at=NOW)], ["examine"]),
        ([image(uploaded_at=NOW), READY], []),
        ([image(created=DAYS_AGO)], ["give up"]),
        ([image(created=DAYS_AGO, uploaded_at=NOW)], ["examine"]),
        ([image(created=DAYS_AGO), ImageState(image="image-a", phase="failed", since=NOW)], []),
        ([image(uploaded_at=NOW, deleted_at=NOW), READY], ["remove"]),
        ([image(deleted_at=NOW)], ["remove"]),
        ([image(uploaded_at=NOW, deleted_at=NOW), READY, USED], []),
        ([image(uploaded_at=NOW, pool="elsewhere")], []),
        ([image(uploaded_at=NOW), image(id="image-b", deleted_at=NOW)], ["examine", "remove"]),
        ([image(uploaded_at=NOW), WAITING], ["examine"]),
        ([image(uploaded_at=NOW, source="image-b")], ["clone"]),
        ([image(uploaded_at=NOW, source="image-b"), READY], []),
        ([image(uploaded_at=NOW, source="image-b", deleted_at=NOW)], ["remove"]),
        ([image(uploaded_at=NOW, deleted_at=NOW), Unique(path=keys.use("image", "image-a", "image-b"), owner="image-b")], []),
    ],
)
def test_work(records: list[Record], work: list[str]) -> None:
    world = World(pool(), *records)
    view = View(world.store, READS, world.clock, lambda: None)
    view.refresh()
    assert [found.do for found in decide(view, NOW_S)] == work


def work_on(*records: Record) -> Work:
    world = World(pool(), *records)
    view = View(world.store, READS, world.clock, lambda: None)
    view.refresh()
    (work,) = decide(view, NOW_S)
    return work


@pytest.mark.parametrize("state", [None, WAITING])
def test_decisions_rest_on_the_image_and_its_state(state: ImageState | None) -> None:
    work = work_on(image(uploaded_at=NOW), *([state] if state else []))
    for decision, phase in ((ready(work, "raw", 5, NOW_S), "ready"), (failed(work, "why", NOW_S), "failed")):
        (put,) = decision.puts
        assert isinstance(put, ImageState)
        assert (put.phase, put.since) == (phase, NOW)
        stands = unchanged(work.state) if work.state else absent("imagestate/image-a")
        assert set(decision.requires) == {unchanged(work.image), stands}
        assert decision.deletes == ()


def test_image_that_waits_says_why_and_only_once() -> None:
    work = work_on(image(uploaded_at=NOW))
    decision = waiting(work, "pool local is full", NOW_S)
    assert decision
    assert decision.puts == (WAITING,)
    again = work_on(image(uploaded_at=NOW), WAITING)
    assert waiting(again, "pool local is full", NOW_S) is None
    assert waiting(again, "it is not mounted", NOW_S)
    assert waiting(work_on(image(deleted_at=NOW)), "pool local is full", NOW_S) is None, "nobody waits for that"


def test_a_clone_needs_its_source_until_it_is_judged() -> None:
    work = work_on(image(uploaded_at=NOW, source="image-b"))
    use = "use/image/image-b/image-a"
    assert use not in getattr(waiting(work, "why", NOW_S), "deletes", ())
    for decision in (ready(work, "qcow2", 5, NOW_S), failed(work, "why", NOW_S)):
        assert decision.deletes == (use,)
    assert use in gone(work.image).deletes


def test_nothing_is_left_of_what_is_gone() -> None:
    decision = gone(work_on(image(deleted_at=NOW)).image)
    assert set(decision.deletes) == {"image/image-a", "imagestate/image-a", "unique/image/default/a"}
    assert empty("use/image/image-a/") in decision.requires
