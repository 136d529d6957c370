"""Growing a qcow2 disk that has been a guest's. Called by the pool `directory` before the guest starts; Linux.

The guest's own process has written this file, its header included, and may have been taken over. Only the size is read from
it here; qemu-img, which believes all that it says, is confined, with a user that owns the file meanwhile. What backs the disk
is not opened: the disk is never smaller than its image, so nothing of that would show in what is added.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ucloud.base.errors import NotYet, Temporary
from ucloud.driver import image_lock
from ucloud.driver.pool import confine, header

SPARE_MIB = 64  # more than the tables of the largest disk grow by


def grow(disk: Path, size_mib: int) -> None:
    """To `size_mib`; one that has as much or more stays as it is. Raises Temporary, NotYet while a guest has it."""
    if virtual_bytes(disk) >= size_mib * header.MIB:
        return
    written_mib = -(-disk.stat().st_size // header.MIB) + SPARE_MIB
    limits = confine.Limits(cpu_s=20, wall_s=60, memory_mib=1024, write_mib=written_mib)
    # Locking must be asked for: by default qemu finds out with /dev/null, which is not there, and leaves it.
    node = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": confine.OUTPUT, "locking": "on"}}
    command = ["qemu-img", "resize", "-q", f"json:{json.dumps(node)}", f"{size_mib}M"]
    with owned(disk, confine.UID):
        finished = confine.run(command, limits, disk.parent, disk.name, disk.name)
    if not finished.ok or virtual_bytes(disk) < size_mib * header.MIB:
        said = finished.message.rpartition("qemu-img: ")[2]  # behind its warnings that /dev/null is not there
        if image_lock.is_locked(said):
            raise NotYet(image_lock.words(f"the disk {disk}", said))
        why = "that takes too long" if finished.killed else said or "qemu-img did not do it"
        raise Temporary(f"the disk {disk} cannot grow to {size_mib} MiB: {why}", retry_s=10)


def virtual_bytes(disk: Path) -> int:
    head, _ = header.read_head(disk)
    if len(head) < header.BYTES or not head.startswith(header.QCOW2):
        raise Temporary(f"the disk {disk} is damaged: it does not begin as qcow2 does", retry_s=10)
    return header.virtual_bytes(head)


@contextmanager
def owned(disk: Path, user: int) -> Iterator[None]:
    """It is root's afterwards; if we die before, the next start hands it over to the guest all the same."""
    descriptor = os.open(disk, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, user, user)
        yield
    finally:
        os.fchown(descriptor, 0, 0)
        os.close(descriptor)
