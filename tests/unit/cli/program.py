"""The program as users start it, on a terminal or not, in whatever surroundings."""

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from typing import Any

COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'ucloud'; from ucloud.daemon.main import main; main()"]
DEADLINE_S = 120


def start(*arguments: str, environment: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
    clean = {"PATH": os.environ["PATH"], **environment}
    return subprocess.Popen([*COMMAND, *arguments], env=clean, text=True, preexec_fn=heed_interrupts, **options)


def heed_interrupts() -> None:
    """A shell makes what it starts in the background ignore them, and so whatever the tests start then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: str, environment: Mapping[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    with start(*arguments, environment=environment, **options) as process:
        out, errors = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(arguments, process.returncode, out, errors)


def on_terminal(*arguments: str, environment: Mapping[str, str], columns: int = 80) -> tuple[int, str]:
    """Exit status, and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = start(*arguments, environment={"TERM": "xterm", **environment}, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := _read(ours):
            shown += part
        return process.wait(DEADLINE_S), shown.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError as error:
        if error.errno != errno.EIO:  # nobody has the other side open any more
            raise
        return b""
