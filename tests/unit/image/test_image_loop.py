"""The image loop over the store in memory and a fake pool."""

import hashlib
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from tests.unit.world import NOW, World, pool
from ucloud.base.errors import Conflict, Temporary
from ucloud.driver.pool.contract import Examined
from ucloud.driver.pool.fake import FakePool
from ucloud.driver.pool.rules import no_room
from ucloud.image.loop import ImageLoop, Task, at_once
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

    def new_loop(self, owner: str, begin: Callable[[Task], None] = at_once) -> ImageLoop:
        view = View(self.store, READS, self.clock, lambda: None)
        return ImageLoop(
            self.store,
            view,
            lambda _: self.pool,
            self.clock,
            Leadership(self.store, "image", owner, 6, self.clock),
            begin=begin,
        )

    def clone(self, source: str, id: str) -> None:
        image = Image(id=id, name=id, pool="local", bytes=len(RAW), sha256="", source=source, created=NOW, uploaded_at=NOW)
        use = Unique(path=keys.use("image", source, id), owner=id)
        self.put(image, use, Unique(path=keys.unique("image", "default", id), owner=id))

    def add(self, id: str, content: bytes = RAW, **changes: str) -> None:
        self.pool.receive(id, [content], len(content), hashlib.sha256(content).hexdigest())
        image = Image(id=id, name=id, pool="local", bytes=len(content), sha256="", created=NOW, uploaded_at=NOW)
        self.put(image, Unique(path=keys.unique("image", "default", id), owner=id))
        self.change(id, **changes)

    def change(self, id: str, **changes: object) -> None:
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
    states = [images.state(id) for id in ("image-a", "image-b", "image-c")]
    assert [state.phase for state in states if state] == ["examining", "ready", "ready"]
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


def test_image_for_which_there_is_no_room_waits_longer_each_time_and_says_why() -> None:
    images = Images()
    images.add("image-a")
    tried: list[float] = []
    publish = images.pool.publish

    def full(image: str, max_virtual_mib: int) -> Examined:
        tried.append(images.clock.monotonic_s())
        if len(tried) < 9:
            raise no_room("local", 5 << 20, len(tried) << 20)
        return publish(image, max_virtual_mib)

    images.pool.publish = full  # type: ignore[method-assign]
    images.settle()
    state = images.state("image-a")
    assert state
    assert (state.phase, state.error) == ("examining", "pool local is full: 5 MiB are needed, 1 MiB are free")
    for _ in range(3000):
        images.clock.pass_s(1)
        images.settle()
    state = images.state("image-a")
    assert state
    assert (state.phase, state.error) == ("ready", "")
    pauses_s = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses_s == [10, 20, 40, 80, 160, 320, 600, 600]


def test_clone_frees_its_source_when_it_is_ready() -> None:
    images = Images()
    images.add("image-a")
    images.settle()
    images.clone("image-a", "image-b")
    images.change("image-a", deleted_at=NOW)
    images.pool.fail_next("clone_image")
    images.settle()
    assert images.pool.images() == {"image-a"}, "its clone is not made yet"
    images.clock.pass_s(2)
    images.settle()
    state = images.state("image-b")
    assert state
    assert (state.phase, state.format, state.virtual_size_mib) == ("ready", "raw", 1)
    assert images.pool.images() == {"image-b"}
    assert not images.store.list("use/").items


def test_work_that_takes_long_holds_up_nobody_and_is_done_once() -> None:
    images = Images()
    begun: list[Callable[[], None]] = []
    images.loop = images.new_loop("control-1", begun.append)
    for id in ("image-a", "image-b"):
        images.add(id)
    images.settle()
    images.clock.pass_s(3)
    images.settle()
    assert len(begun) == 2
    begun[1]()
    images.settle()
    assert [images.state(id) is not None for id in ("image-a", "image-b")] == [False, True]
    begun[0]()
    images.settle()
    assert images.state("image-a")
    assert len(begun) == 2


def test_large_images_leave_places_for_the_others() -> None:
    images = Images()
    begun: list[Callable[[], None]] = []
    images.loop = images.new_loop("control-1", begun.append)
    for id in ("image-a", "image-b", "image-c"):
        images.add(id)
        images.change(id, bytes=1 << 40)
    images.add("image-d")
    images.settle()
    assert len(begun) == 3
    for work in begun:
        work()
    images.settle()
    assert [images.state(f"image-{id}") is not None for id in "abcd"] == [True, True, False, True]
    begun[3]()
    images.settle()
    assert images.state("image-c")


def test_what_others_did_when_leadership_was_lost_is_left_to_the_new_leader() -> None:
    images = Images()
    begun: list[Callable[[], None]] = []
    images.loop = images.new_loop("control-1", begun.append)
    images.add("image-a")
    images.settle()
    other = images.new_loop("control-2")
    images.clock.pass_s(60)
    for _ in range(5):
        other.step()
    assert images.state("image-a")
    begun[0]()
    images.settle()
    assert len(begun) == 1


def test_a_bug_in_the_work_ends_the_loop() -> None:
    images = Images()
    images.add("image-a")
    images.pool.publish = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        images.settle()


def test_a_slow_upload_is_not_given_up() -> None:
    images = Images()
    images.add("image-a", uploaded_at="", created="2026-01-01T00:00:00.000Z")
    images.settle()
    assert images.state("image-a") is None
    images.pool.remove_image("image-a")
    images.clock.pass_s(3601)
    images.settle()
    state = images.state("image-a")
    assert state
    assert (state.phase, state.error) == ("failed", "no complete upload arrived within a day")


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
