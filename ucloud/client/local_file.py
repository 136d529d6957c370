"""A file of this machine that is to be uploaded, and must stay as it is meanwhile."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from ucloud.base.errors import Invalid

CHUNK_BYTES = 256 * 1024

TellBytes = Callable[[int, int], None]


class LocalFile:
    """Opened once, so that it is the same file throughout. Raises Invalid for what cannot be uploaded, or has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a pipe would keep us waiting for ever
                raise self._refusal("is no regular file")
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._refusal(f"cannot be read: {error.strerror}") from error
        self._state = self._look()
        self.size = self._state[0]
        if not self.size:
            self._file.close()
            raise self._refusal("is empty")

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def sha256(self, tell: TellBytes) -> str:
        digest = hashlib.sha256()
        for chunk in self.read(0, tell):
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, start: int, tell: TellBytes) -> Iterator[bytes]:
        """From byte `start` to its end; tells how many bytes are done, of how many."""
        self._file.seek(start)
        done = start
        while chunk := self._read():
            done += len(chunk)
            if done > self.size:
                break
            yield chunk
            tell(done, self.size)
        if done != self.size or self._look() != self._state:
            raise self._refusal("has changed while it was read; upload it when it is complete")

    def _read(self) -> bytes:
        try:
            return self._file.read(CHUNK_BYTES)
        except OSError as error:
            raise self._refusal(f"cannot be read: {error.strerror}") from error

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _refusal(self, why: str) -> Invalid:
        return Invalid(f"the file {str(self._path)!r} {why}", {"file": why})
