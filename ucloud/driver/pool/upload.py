"""An upload on its way into a pool `directory`: what has arrived stays when the connection breaks, and is gone on with.

`<image>.part` grows while somebody writes to it, one at a time (a lock on the file, which ends with its process). When it is
complete, its checksum right and all of it on disk, it appears as `<image>`.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ucloud.base.errors import Temporary
from ucloud.driver.pool.files import FULL, PART, place, sync
from ucloud.driver.pool.rules import check_start, check_upload

READ_BYTES = 1024 * 1024


def part_of(file: Path) -> Path:
    return file.with_name(file.name + PART)


def receive(file: Path, chunks: Iterable[bytes], size: int, sha256: str, start: int) -> None:
    """As the contract says; raises OSError for what the operating system refuses."""
    if file.exists():  # it had arrived whole before, and its caller had no time to say so
        for _ in chunks:
            pass
        return
    part = part_of(file)
    with alone_with(part) as out:
        check_start(start, os.fstat(out.fileno()).st_size)
        digest, received = hashlib.sha256(), start
        while out.tell() < start:
            digest.update(out.read(min(READ_BYTES, start - out.tell())))
        out.truncate(start)
        try:
            for chunk in chunks:
                received += len(chunk)
                if received > size:
                    break
                digest.update(chunk)
                out.write(chunk)
            out.flush()
        except OSError as error:
            if error.errno in FULL:
                part.unlink()
            raise
        if received > size or (received == size and digest.hexdigest() != sha256):
            part.unlink()  # while what is only cut short can be gone on with
        check_upload(received, size, digest.hexdigest(), sha256)
        os.fchmod(out.fileno(), 0o444)
        sync(part)
        place(part, file)
        part.unlink()


@contextmanager
def alone_with(part: Path) -> Iterator[BinaryIO]:
    """The file, made if need be, which nobody else writes to. Raises Temporary while somebody does."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Temporary("somebody else is uploading it at this moment", retry_s=5) from None
        if os.fstat(descriptor).st_nlink == 0:
            raise Temporary("it has just arrived, or was just removed")
        yield file
