"""Fencing by a program of the operator's ([control] fence_command): it tells the file server to expire the host's client, or
the power strip to switch it off. Exit 0 is the proof."""

import subprocess

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line

TIMEOUT_S = 30.0
MOST_WORDS = 200  # of what it prints


class CommandFence:
    """program: called as PROGRAM POOL NAME ADDRESS ID, without a shell; "" where none is configured."""

    def __init__(self, program: str, timeout_s: float = TIMEOUT_S) -> None:
        self._program, self._timeout_s = program, timeout_s

    def cut_off(self, pool: str, name: str, address: str, id: str) -> str:
        if not self._program:
            raise Temporary(f"the control daemons have no [control] fence_command for the pool {pool}")
        try:
            done = subprocess.run(
                [self._program, pool, name, address, id],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._timeout_s,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Temporary(f"{self._program} did not end within {self._timeout_s:g} s") from None
        except OSError as error:
            raise Temporary(f"{self._program}: {error.strerror}") from error
        said = one_line(done.stdout.decode(errors="replace"))[:MOST_WORDS]
        words = f"{self._program} {pool} {name}{f': {said}' if said else ''}"
        if done.returncode:
            raise Temporary(f"{words} (exit {done.returncode})")
        return f"{words} (exit 0)"
