"""Files that appear whole or not at all. Called by the pool `directory`, whose rules for temporary names these are."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

PART = ".part"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_file(final: Path, directory: Path | None = None) -> Iterator[Path]:
    """A name to make a file under, in `directory` (default: where it will be). When all went well it appears as `final`,
    complete and on disk; else it is gone."""
    part = (directory or final.parent) / f"{final.name}.{secrets.token_hex(4)}{PART}"
    try:
        yield part
        sync(part)
        place(part, final)
    finally:
        part.unlink(missing_ok=True)


def place(file: Path, final: Path) -> None:
    """Give a complete file its final name too, for good: what stands there already is as good, and may be in use."""
    with contextlib.suppress(FileExistsError):
        final.hardlink_to(file)
    sync(final.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_in(directory: Path, suffix: str = "") -> list[Path]:
    """None in a directory that somebody has removed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [file for file in directory.iterdir() if file.name.endswith(suffix)]
    return []


def is_abandoned(file: Path, life_s: float) -> bool:
    """Nobody has written to it, or into it, for so long that its writer must be dead."""
    return time.time() - file.lstat().st_mtime > life_s


def remove(directory: Path, name: str) -> None:
    """A file, and what was begun of it under temporary names."""
    for file in files_in(directory):
        if file.name == name or (file.name.startswith(f"{name}.") and file.suffix == PART):
            file.unlink(missing_ok=True)


def remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
