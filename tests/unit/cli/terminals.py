"""The program on a terminal of its own, as a person would use it."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path

from tests.unit.cli.program import heed_interrupts

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120.0


class Terminal:
    """Runs `ucloud …`; a `with` statement's life. seen: all that it showed so far."""

    def __init__(self, *arguments: str, rows: int = 33, columns: int = 111, environment: Mapping[str, str] = {}) -> None:
        self._own, self._theirs = pty.openpty()
        ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings = termios.tcgetattr(self._theirs)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("UCLOUD_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ucloud.daemon.main", *arguments],
            cwd=ROOT,
            env={**plain, "TERM": "xterm", **environment},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            preexec_fn=heed_interrupts,
        )
        self.seen = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)
        os.close(self._theirs)

    def type(self, data: bytes) -> None:
        os.write(self._own, data)

    def until(self, text: str, times: int = 1) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while self.seen.count(text.encode()) < times:
            left_s = until_s - time.monotonic()
            assert left_s > 0, f"waited in vain for {text!r}; the terminal shows {self.seen!r}"
            assert self.process.poll() is None or self._readable(0), f"it ended without {text!r}, but with {self.seen!r}"
            if self._readable(min(left_s, 1.0)):
                self.seen += os.read(self._own, 65536)

    def ends(self) -> int:
        """The exit code. The terminal must be as it was before."""
        until_s = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < until_s, f"it does not end; the terminal shows {self.seen!r}"
            if self._readable(0.1):
                self.seen += os.read(self._own, 65536)
        assert termios.tcgetattr(self._theirs) == self.settings, "the terminal is not as it was before"
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _readable(self, wait_s: float) -> bool:
        return bool(select.select([self._own], [], [], wait_s)[0])
