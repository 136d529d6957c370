"""A moment of this machine's boot clock in a small file, by which the processes of a host tell each other how things stand:
until when its lease is held (`lease`, read by `deadman` and the host daemon), when the host daemon looked last.

It outlives who wrote it, but not the boot that it belongs to. Written in one go; a reader who catches it half written looks
again.
"""

import hashlib
import os
import struct
from pathlib import Path

LAYOUT = struct.Struct("<16sd")
DIGEST_BYTES = 8
LOOKS = 3


class Moment:
    """boot: which boot of the machine this is."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path, self._boot = path, hashlib.sha256(boot.encode()).digest()[:16]

    def set(self, at_s: float) -> None:
        """at_s: of `Clock.boot_s`. Raises OSError."""
        data = LAYOUT.pack(self._boot, at_s)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, data + digest(data), 0)
        finally:
            os.close(file)

    def get(self) -> float | None:
        """None: nobody has set it since the machine booted, or it cannot be read."""
        for _ in range(LOOKS):
            try:
                content = self._path.read_bytes()
            except OSError:
                return None
            data = content[: LAYOUT.size]
            if len(data) == LAYOUT.size and content[LAYOUT.size :] == digest(data):
                boot, at_s = LAYOUT.unpack(data)
                return float(at_s) if boot == self._boot else None
        return None


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]
