"""The serial log of a VM: bounded even when nobody looks after it. Why it is made so: doc/decisions/0002-serial-log.md.

Called by qemu.py. qemu appends to a file on a tmpfs of the VM's own: while the daemon is dead, the size of that is the bound
(qemu ignores that it is full; lines are lost). While it lives, `trim` punches a hole into the old part of the file: no line
is lost, nothing is copied, and qemu, which only appends, notices nothing.
"""

import ctypes
import os
from pathlib import Path
from typing import BinaryIO

from ucloud.driver.hypervisor.contract import Log

TMPFS = b"size=1m,nr_inodes=8,mode=0700"
TRIM_BYTES = 512 * 1024  # more than this is cut down ...
KEEP_BYTES = 256 * 1024  # ... to this

_libc = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH = 2
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


class SerialLog:
    """In a directory of its own, which is the mount point. Beside the log it has room for qemu's own complaints."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "serial"
        self._complaints = directory / "stderr"

    def add(self) -> None:
        """Make it, or take over one that is there."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if not self._directory.is_mount():
            flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
            _checked(_libc.mount(b"ucloud", os.fsencode(self._directory), b"tmpfs", flags, TMPFS), self._directory)

    def remove(self) -> None:
        while self._directory.is_mount():
            _checked(_libc.umount2(os.fsencode(self._directory), _MNT_DETACH), self._directory)
        if self._directory.exists():
            self._directory.rmdir()

    def open(self) -> BinaryIO:
        """To append to the log."""
        return open(self._file, "ab", buffering=0, opener=_for_root_alone)

    def open_complaints(self) -> BinaryIO:
        self._complaints.unlink(missing_ok=True)
        return open(self._complaints, "ab", buffering=0, opener=_for_root_alone)

    def complaints(self) -> str:
        """What qemu wrote to its standard error, the newest part."""
        return _read(self._complaints, -4096, 4096).data.decode(errors="replace")

    def read(self, after: int, limit: int) -> Log:
        """As `Hypervisor.log`. Raises FileNotFoundError."""
        return _read(self._file, after, limit)

    def trim(self) -> None:
        for file in (self._file, self._complaints):
            try:
                if file.stat().st_blocks * 512 > TRIM_BYTES:
                    _forget_all_but(file, KEEP_BYTES)
            except FileNotFoundError:  # no log yet, or just forgotten
                continue


def _for_root_alone(file: str, flags: int) -> int:
    return os.open(file, flags | os.O_CLOEXEC, 0o600)


def _read(file: Path, after: int, limit: int) -> Log:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        start = max(0, size + after) if after < 0 else after if after <= size else 0
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:  # there is no data behind `start`
            return Log(b"", size)
        read = os.pread(descriptor, limit, start)
        data = read.lstrip(b"\0")  # the end of the hole, which is not aligned to pages
        return Log(data, start + len(read) - len(data))
    finally:
        os.close(descriptor)


def _forget_all_but(file: Path, size: int) -> None:
    """The file is open in a process that its guest may have taken over: it can have any size, and room beyond its end."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        length = os.fstat(descriptor).st_size - size
        if length <= 0:
            os.truncate(descriptor, 0)
            return
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        _checked(_libc.fallocate(descriptor, mode, ctypes.c_longlong(0), ctypes.c_longlong(length)), file)
    finally:
        os.close(descriptor)


def _checked(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
