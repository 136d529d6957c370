"""The image loop over the store in memory and a fake pool."""

import hashlib

import msgspec
import pytest

from tests.unit.world import NOW, World, pool
from ucloud.base.errors import Conflict, Temporary
from ucloud.driver.pool.contract import Examined
from ucloud.driver.pool.fake import FakePool
from ucloud.image.loop import ImageLoop
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.image import Image, ImageState
from ucloud.model.record import decode
from ucloud.store.lock import Leadership
from ucloud.store.view import View

READS = ("image/", "imagestate/", "pool/", "use/image/", "lock/image")
RAW = bytes(510) + b"\x55\xaa"


class Images(World):
    """A control daemon's image loop; `pool` is where its images are."""

    def __init__(self) -> None:
        super().__init__(pool())
        self.pool = FakePool("local")
        self.loop = self.new_loop("control-1")

    def new_loop(self, owner: str) -> ImageLoop:
        view = View(self.store, READS, self.clock, lambda: None)
        return ImageLoop(
            self.store, view, lambda _: self.pool, self.clock, Leadership(self.store, "image", owner, 6, self.clock)
        )

    def add(self, id: str, content: bytes = RAW, **changes: str) -> None:
        self.pool.receive(id, [content], len(content), hashlib.sha256(content).hexdigest())
        image = Image(id=id, name=id, pool="local", bytes=len(content), sha256="", created=NOW, uploaded_at=NOW)
        self.put(image, Unique(path=keys.unique("image", "default", id), owner=id))
        self.change(id, **changes)

    def change(self, id: str, **changes: str) -> None:
        image = self.store.get(Image.at(id))
        assert image
        self.put(msgspec.structs.replace(decode(Image, image.value)[0], **changes))

    def state(self, id: str) -> ImageState | None:
        item = self.store.get(ImageState.at(id))
        return decode(ImageState, item.value)[0] if item else None

    def settle(self) -> None:
        """Until the loop finds nothing to do."""
        for _ in range(50):
            if self.loop.step() > 0:
                return
        pytest.fail("the loop does not come to rest")


def test_uploads_become_ready_or_failed() -> None:
    images = Images()
    images.add("image-a")
    images.add("image-b", b"garbage")
    images.settle()
    good, bad = images.state("image-a"), images.state("image-b")
    assert good
    assert bad
    assert (good.phase, good.format, good.virtual_size_mib) == ("ready", "raw", 1)
    assert (bad.phase, bad.error) == ("failed", "neither qcow2 nor a raw disk with a boot sector")
    assert images.pool.images() == {"image-a"}, "nobody needs what was refused"


def test_deleted_image_goes_with_its_file_and_all_its_keys() -> None:
    images = Images()
    images.add("image-a")
    images.settle()
    images.change("image-a", deleted_at=NOW)
    images.settle()
    assert not images.pool.images()
    assert not [item.key for item in images.store.list("").items if "image-a" in item.key]


def test_trouble_with_one_image_does_not_hold_up_the_others() -> None:
    images = Images()
    for id in ("image-a", "image-b", "image-c"):
        images.add(id)
    images.pool.fail_next("publish")
    images.settle()
    assert [images.state(id) is not None for id in ("image-a", "image-b", "image-c")] == [False, True, True]
    images.clock.pass_s(2)
    images.settle()
    assert images.state("image-a")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", ["publish", "remove_image"])
def test_what_failed_is_tried_again_until_it_is_done(verb: str, after: bool) -> None:
    images = Images()
    images.add("image-a")
    images.add("image-b", deleted_at=NOW)
    images.pool.fail_next(verb, 2, after=after)
    for _ in range(3):
        images.settle()
        images.clock.pass_s(2)
    state = images.state("image-a")
    assert state
    assert state.phase == "ready"
    assert images.store.get("image/image-b") is None
    assert images.pool.images() == {"image-a"}


def test_only_the_leader_acts() -> None:
    images = Images()
    images.settle()
    other = images.new_loop("control-2")
    images.add("image-a")
    assert other.step() > 0
    assert images.state("image-a") is None


def test_image_that_another_leader_removed_meanwhile_leaves_no_file() -> None:
    images = Images()
    images.add("image-a")
    publish = images.pool.publish

    def publish_late(image: str, max_virtual_mib: int) -> Examined:
        found = publish(image, max_virtual_mib)
        images.delete(Image.at(image))
        return found

    images.pool.publish = publish_late  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        images.settle()
    assert not images.pool.images()


def test_lost_answer_is_read_again() -> None:
    images = Images()
    images.add("image-a")
    commit = images.store.commit

    def lose(*arguments: object, **named: object) -> int:
        revision = commit(*arguments, **named)  # type: ignore[arg-type]
        if images.state("image-a"):
            images.store.commit = commit  # type: ignore[method-assign]
            raise Temporary("the answer was lost")
        return revision

    images.store.commit = lose  # type: ignore[method-assign]
    with pytest.raises(Temporary):
        images.settle()
    images.settle()
    state = images.state("image-a")
    assert state
    assert state.phase == "ready"
