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


class Pool(Protocol):
    name: str

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str) -> None:
        """Keep an upload until it is examined. Raises Invalid when there are more or fewer bytes or the checksum differs
        (details say which), and NoCapacity when the pool is full; then nothing of it is left."""

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        """Examine what was received, in confinement, and make it a read-only image that can be cloned. Raises Invalid with
        the reason when it must not be used: backing or external data files, unknown format, too large virtually; NoCapacity
        when the pool has no room for it."""

    def images(self) -> frozenset[str]:
        """Ids of all images of which anything is there, received or published."""

    def remove_image(self, image: str) -> None: ...

    def disks(self) -> Iterator[tuple[str, str]]:
        """(VM id, disk name) of every disk."""

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        """Clone a published image and grow the clone to `size_mib`. A disk that is there already stays as it is;
        one that was made and has been lost is not made anew (Temporary)."""

    def remove_disk(self, vm: str, name: str) -> None: ...

    def attachment(self, vm: str, name: str) -> GuestDisk:
        """How the hypervisor opens this disk."""
