"""A pool whose images and disks are rows in a table. Used by tests, by benchmarks and by the simulator.

It keeps the same contract as the real ones (tests/contract/test_pool.py), and judges uploads by the same header; it forgets
what follows it. One object is one pool, for all the hosts that share it and across their restarts. `fail_next` and
`preload` are what a test does to the world.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from ucloud.base.errors import Temporary
from ucloud.driver.pool import header
from ucloud.driver.pool.contract import Examined, Progress
from ucloud.driver.pool.rules import check_growth, check_ids, check_start, check_upload, no_room
from ucloud.model.guest import GuestDisk


class FakePool:
    def __init__(self, name: str = "fake", capacity_bytes: int = 1 << 60) -> None:
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._arrived: dict[str, bytes] = {}  # image → what has arrived of an upload that is not complete
        self._received: dict[str, tuple[bytes, int]] = {}  # image → its first bytes, its size
        self._published: dict[str, Examined] = {}
        self._disks: dict[tuple[str, str], tuple[str, int]] = {}  # (VM, name) → image, size in MiB
        self._failing_before: Counter[str] = Counter()
        self._failing_after: Counter[str] = Counter()

    def prepare(self) -> None:
        pass

    def free_bytes(self) -> int:
        return self.capacity_bytes - sum(size for _, size in self._received.values())

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str, start: int = 0) -> None:
        check_ids(image)
        self._fail("receive", self._failing_before)
        if size > self.free_bytes():
            raise no_room(self.name, size, self.free_bytes())
        arrived = self._arrived.get(image, b"")
        check_start(start, len(arrived))
        content = bytearray(arrived[:start])
        for chunk in chunks:
            content += chunk
            self._arrived[image] = bytes(content)
            if len(content) > size:
                break
        if len(content) >= size:
            self._arrived.pop(image, None)
        check_upload(len(content), size, hashlib.sha256(content).hexdigest(), sha256)
        with self._lock:
            self._received[image] = (bytes(content[: header.BYTES]), len(content))
        self._fail("receive", self._failing_after)

    def progress(self, image: str) -> Progress:
        check_ids(image)
        self._fail("progress", self._failing_before)
        with self._lock:
            _, received = self._received.get(image, (b"", 0))
        return Progress(received_bytes=received or len(self._arrived.get(image, b"")))

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        check_ids(image)
        self._fail("publish", self._failing_before)
        with self._lock:
            if image not in self._published:
                if image not in self._received:
                    raise Temporary(f"nothing of {image} is in pool {self.name}")
                self._published[image] = header.examine(*self._received[image], max_virtual_mib)
            self._received.pop(image, None)
            examined = self._published[image]
        self._fail("publish", self._failing_after)
        return examined

    def clone_image(self, source: str, image: str) -> Examined:
        check_ids(source, image)
        self._fail("clone_image", self._failing_before)
        with self._lock:
            if image not in self._published:
                if source not in self._published:
                    raise Temporary(f"{source} is not in pool {self.name}")
                self._published[image] = self._published[source]
            cloned = self._published[image]
        self._fail("clone_image", self._failing_after)
        return cloned

    def images(self) -> frozenset[str]:
        self._fail("images", self._failing_before)
        with self._lock:
            return frozenset(self._arrived) | frozenset(self._received) | frozenset(self._published)

    def remove_image(self, image: str) -> None:
        check_ids(image)
        self._fail("remove_image", self._failing_before)
        with self._lock:
            self._arrived.pop(image, None)
            self._received.pop(image, None)
            self._published.pop(image, None)
        self._fail("remove_image", self._failing_after)

    def disks(self) -> Iterator[tuple[str, str]]:
        self._fail("disks", self._failing_before)
        with self._lock:
            return iter(sorted(self._disks))

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        check_ids(vm, name, image)
        self._fail("add_disk", self._failing_before)
        with self._lock:
            if (vm, name) not in self._disks:
                if image not in self._published:
                    raise Temporary(f"{image} is not in pool {self.name}")
                check_growth(size_mib, self._published[image].virtual_size_mib)
                self._disks[vm, name] = (image, size_mib)
            image, has_mib = self._disks[vm, name]
            self._disks[vm, name] = (image, max(has_mib, size_mib))
        self._fail("add_disk", self._failing_after)

    def remove_disk(self, vm: str, name: str) -> None:
        check_ids(vm, name)
        self._fail("remove_disk", self._failing_before)
        with self._lock:
            self._disks.pop((vm, name), None)
        self._fail("remove_disk", self._failing_after)

    def attachment(self, vm: str, name: str) -> GuestDisk:
        check_ids(vm, name)
        return GuestDisk(name=name, path=f"/{self.name}/{vm}/{name}")

    def size_mib(self, vm: str, name: str) -> int:
        return self._disks[vm, name][1]

    def preload(self, image: str, virtual_size_mib: int = 1) -> None:
        """As if an image had been uploaded and published."""
        self._published[image] = Examined("qcow2", virtual_size_mib)

    def fail_next(self, verb: str, times: int = 1, *, after: bool = False) -> None:
        """The next calls of `verb` raise Temporary: before they did anything, or `after` they did it (a lost answer)."""
        (self._failing_after if after else self._failing_before)[verb] += times

    def _fail(self, verb: str, failing: Counter[str]) -> None:
        with self._lock:
            if not failing[verb]:
                return
            failing[verb] -= 1
        raise Temporary(f"{verb} was told to fail")
