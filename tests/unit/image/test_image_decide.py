"""Which images need work, by what their records say."""

import pytest

from tests.unit.world import NOW_S, World, pool
from ucloud.base.clock import timestamp
from ucloud.image.decide import decide, failed, gone, ready
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, empty
from ucloud.model.image import Image, ImageState
from ucloud.model.record import Record
from ucloud.store.view import View

HOUR_S = 3600.0
NOW, HOUR_AGO, DAYS_AGO = (timestamp(NOW_S - hours * HOUR_S) for hours in (0, 1, 49))
READS = ("image/", "imagestate/", "pool/", "use/image/", "lock/image")


def image(**changes: str) -> Image:
    plain = {"id": "image-a", "name": "a", "pool": "local", "created": HOUR_AGO}
    return Image(bytes=1, sha256="0", **{**plain, **changes})


READY = ImageState(image="image-a", phase="ready", since=NOW)
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
    ],
)
def test_work(records: list[Record], work: list[str]) -> None:
    world = World(pool(), *records)
    view = View(world.store, READS, world.clock, lambda: None)
    view.refresh()
    assert [found.do for found in decide(view, NOW_S)] == work


def test_decisions_rest_on_the_image_and_write_once() -> None:
    world = World(pool(), image(uploaded_at=NOW))
    view = View(world.store, READS, world.clock, lambda: None)
    view.refresh()
    (work,) = decide(view, NOW_S)
    for decision, phase in ((ready(work.image, "raw", 5, NOW_S), "ready"), (failed(work.image, "why", NOW_S), "failed")):
        (state,) = decision.puts
        assert isinstance(state, ImageState)
        assert (state.phase, state.since) == (phase, NOW)
        assert absent("imagestate/image-a") in decision.requires
        assert any(needs.revision == work.image.revision for needs in decision.requires)
    decision = gone(work.image)
    assert set(decision.deletes) == {"image/image-a", "imagestate/image-a", "unique/image/default/a"}
    assert empty("use/image/image-a/") in decision.requires
