"""Fencing by a program of the operator's ([control] fence_command): it tells the file server to expire the host's client, or
the power strip to switch it off. Exit 0 is the proof."""

import os
import select
import subprocess

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line
from ucloud.driver.fence.contract import TIMEOUT_S

MOST_WORDS = 200  # of what it prints
MOST_BYTES = 4096  # of it that are kept
LOOK_S = 0.05  # while it prints nothing
KILLED = {137, -9}  # exits of timeout(1) that had to kill


class CommandFence:
    """program: called as PROGRAM POOL NAME ADDRESS ID, without a shell; "" where none is configured."""

    def __init__(self, program: str, timeout_s: float = TIMEOUT_S) -> None:
        self._program, self._timeout_s = program, timeout_s

    def cut_off(self, pool: str, name: str, address: str, id: str) -> str:
        if not self._program:
            raise Temporary(f"the control daemons have no [control] fence_command for the pool {pool}")
        if not os.access(self._program, os.X_OK):
            raise Temporary(f"{self._program} cannot be run: no such file, or it is not executable")
        # timeout(1) and not this process ends it with its children, as this one may be gone by then
        limit = ["timeout", "--signal=KILL", f"{self._timeout_s:g}"]
        with subprocess.Popen(
            [*limit, self._program, pool, name, address, id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            said = one_line(output(process).decode(errors="replace"))[:MOST_WORDS]
        if process.returncode in KILLED:
            raise Temporary(f"{self._program} did not end within {self._timeout_s:g} s")
        words = f"{self._program} {pool} {name}{f': {said}' if said else ''}"
        if process.returncode:
            raise Temporary(f"{words} (exit {process.returncode})")
        return f"{words} (exit 0)"


def output(process: "subprocess.Popen[bytes]") -> bytes:
    """What it prints first, until it closes its output or has ended. What it left behind may keep that open: it is not waited
    for."""
    assert process.stdout
    file, said = process.stdout.fileno(), b""
    while True:
        if select.select([file], [], [], LOOK_S)[0]:
            more = os.read(file, MOST_BYTES)
            if not more:
                return said
            said = (said + more)[:MOST_BYTES]
        elif process.poll() is not None:
            return said
