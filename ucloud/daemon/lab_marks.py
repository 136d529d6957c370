"""What `ucloud lab` has done to a cloud on one machine, as empty files h2.cut, etcd-1.killed, … in the run directory.

Written by `lab`, cleared by `ucloud up`, shown by `ucloud status`. The supervisor starts nothing that is marked as killed or
frozen (`Daemon.bans`). Whoever changes marks, or starts what they are about, holds `locked` meanwhile.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from ucloud.base.errors import Conflict

Fault = Literal["killed", "cut", "frozen"]


class Marks:
    """target: a host, or a daemon."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def locked(self) -> AbstractContextManager[None]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return locked(self._directory, wait=True)

    def add(self, target: str, fault: Fault) -> None:
        (self._directory / f"{target}.{fault}").touch()

    def remove(self, target: str, fault: Fault) -> None:
        (self._directory / f"{target}.{fault}").unlink(missing_ok=True)

    def has(self, target: str, fault: Fault) -> bool:
        return (self._directory / f"{target}.{fault}").exists()

    def of(self, *targets: str) -> list[str]:
        """What was done to any of these."""
        return sorted({file.suffix.removeprefix(".") for file in self._files() if file.stem in targets})

    def all(self) -> list[str]:
        return sorted(file.name.replace(".", " ") for file in self._files())

    def clear(self) -> None:
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._directory.glob("*.*"))


@contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """At most one process at a time is inside. Raises Conflict, unless it may wait."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Conflict(f"another process is working on {directory}") from None
        yield
    finally:
        os.close(descriptor)
