"""What ucloud needs of a place for images and disks. Real: `directory` (later ceph); `fake` beside it passes the same tests.

Safe to repeat, all of it. What the world refuses is Temporary with a message for people; what the input is to blame for is
Invalid. Nothing half made ever stands under its final name, whenever the process dies.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from ucloud.model.guest import GuestDisk


class Examined(msgspec.Struct, frozen=True):
    """An image that was found harmless. format: what was uploaded (qcow2, raw)."""

    format: str
    virtual_size_mib: int


class Progress(msgspec.Struct, frozen=True):
    """How much of an image is there. received: of its upload; made: of the file it is being converted to. idle_s: since
    anybody wrote to either of them."""

    received_bytes: int = 0
    made_bytes: int = 0
    idle_s: float = 0.0


class Pool(Protocol):
    """A pool that was prepared once and is not there now (its file system is not mounted) is never taken for an empty one:
    every method then raises Temporary."""

    name: str

    def prepare(self) -> None:
        """Make the place ready, when the pool is added. Raises Invalid where something else is there already."""

    def free_bytes(self) -> int: ...

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str, start: int = 0) -> None:
        """Keep an upload until it is examined; `chunks` go on at byte `start`.

        What has arrived when `chunks` break off stays, so that one can go on from there. Raises Invalid when there are more or
        fewer bytes or the checksum differs (details say which), NoCapacity when the pool is full, Conflict when fewer than
        `start` bytes are there (details: received_bytes), Temporary while somebody else uploads it. Nothing is left of what
        is wrong or does not fit."""

    def progress(self, image: str) -> Progress:
        """How far an image is that is not published yet; all zero where nothing of it is there."""

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        """Examine what was received, in confinement, and make it a read-only image that can be cloned. Raises Invalid with
        the reason when it must not be used: backing or external data files, unknown format, too large virtually; NoCapacity
        while the pool has no room for it: what was received stays."""

    def clone_image(self, source: str, image: str) -> Examined:
        """Make `image` of the published image `source`, which it then needs no more."""

    def images(self) -> frozenset[str]:
        """Ids of all images of which anything is there, received or published."""

    def remove_image(self, image: str) -> None: ...

    def disks(self) -> Iterator[tuple[str, str]]:
        """(VM id, disk name) of every disk."""

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        """Clone a published image and grow the clone to `size_mib`, while no guest has it. A disk that is there already is
        grown if it is smaller, and never shrinks; one that was made and has been lost is not made anew (Temporary)."""

    def remove_disk(self, vm: str, name: str) -> None: ...

    def attachment(self, vm: str, name: str) -> GuestDisk:
        """How the hypervisor opens this disk."""
