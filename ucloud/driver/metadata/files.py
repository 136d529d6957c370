"""What guests are told of themselves, as files: written by the host daemon, read by the metadata daemon of the same host, which
goes on while the other is gone. Picked by daemon/drivers.py.

In their directory there is a file of JSON for each port, VNI-VM; whoever reads never sees half of one. Nobody but root and the
metadata daemon may read them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ucloud.base.errors import Temporary
from ucloud.model.wiring import Metadata

DIRECTORY = "metadata"  # in a host's run_dir
DIRECTORY_MODE, FILE = 0o750, 0o640
READER = 64998  # user and group of the metadata daemon, and nobody else's


class MetadataFiles:
    name = "metadata"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[tuple[int, ...], Metadata | None]] = {}  # what was read of each, and how it looked then

    def actual(self) -> Mapping[str, Metadata | None]:
        """Reads only what has changed since the last time. What a daemon that died had begun to write is there, too: it is not
        as it should be."""
        seen: dict[str, tuple[tuple[int, ...], Metadata | None]] = {}
        with refused(self._directory):
            files = list(self._directory.glob("*"))
            begun = [file.name[1:] for file in files if file.name.startswith(".")]
            for file in files:
                if file.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):
                    found = file.stat()
                    stamp = (found.st_ino, found.st_size, found.st_ctime_ns)
                    before = self._seen.get(file.name)
                    seen[file.name] = before if before and before[0] == stamp else (stamp, read(file))
        self._seen = seen
        things = dict.fromkeys(begun) | {name: thing for name, (_, thing) in seen.items()}
        return {name.replace("-", "/", 1): thing for name, thing in things.items()}

    def changed_ns(self) -> int:
        """When something was added or removed for the last time, by the system's clock. Raises Temporary when the directory is
        gone, and with it whatever is added from now on."""
        with refused(self._directory):
            found = os.stat(self._directory)
        if not found.st_nlink:
            raise Temporary("the directory of metadata was removed")
        return found.st_mtime_ns

    def add(self, things: Sequence[Metadata]) -> None:
        with refused(self._directory):
            make(self._directory)
            for thing in things:
                file = self._file(thing.key)
                new = hidden(file)
                with new.open("wb") as opened:
                    own(opened.fileno(), FILE)
                    opened.write(msgspec.json.encode(thing))
                new.rename(file)

    def remove(self, keys: Sequence[str]) -> None:
        with refused(self._directory):
            for key in keys:
                file = self._file(key)
                for trace in (file, hidden(file)):
                    trace.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._directory / key.replace("/", "-", 1)


def make(directory: Path) -> None:
    """Harmless when it is there. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    own(directory, DIRECTORY_MODE)


def own(path: Path | int, mode: int) -> None:
    os.chown(path, 0, READER)
    os.chmod(path, mode)


def hidden(file: Path) -> Path:
    """Where it is written first."""
    return file.with_name(f".{file.name}")


def read(file: Path) -> Metadata | None:
    """None for what is no file of ours, is open to others than its reader, or is gone."""
    with suppress(OSError, msgspec.MsgspecError):
        found = file.stat()
        thing = msgspec.json.decode(file.read_bytes(), type=Metadata)
        is_guarded = (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, READER, FILE)
        if is_guarded and thing.key.replace("/", "-", 1) == file.name:
            return thing
    return None


@contextmanager
def refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Temporary(f"{path}: {error.strerror}") from error
