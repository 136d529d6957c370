"""Runs another program as if it had taken our place: it has our terminal, signals and exit status. But what it says of its
failure is known afterwards."""

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType

KEPT_BYTES = 4096
DRAIN_S = 1.0  # what it left running in the background may hold its stderr


def run(command: Sequence[str]) -> tuple[int, str]:
    """Its exit status, as a shell gives it, and the end of what came on stderr. command: the program's path comes first."""
    heard, said = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, said, 2)]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # what comes until we know whom to pass it on to waits
    try:
        pid = os.posix_spawn(
            command[0], list(command), os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE], setsigmask=mask
        )
        os.close(said)
        tail = bytearray()
        listener = threading.Thread(target=_pass_on, args=(heard, tail), daemon=True)
        listener.start()
        _take_signals(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = _wait(pid)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    listener.join(DRAIN_S)
    return status if status >= 0 else 128 - status, tail.decode(errors="replace")


def _take_signals(pid: int) -> None:
    """A terminal sends Ctrl-C to both of us, others send a signal to us alone."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)


def _wait(pid: int) -> int:
    """When it is stopped, so are we: the shell continues both."""
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.kill(os.getpid(), signal.SIGSTOP)


def _pass_on(heard: int, tail: bytearray) -> None:
    with open(heard, "rb", buffering=0) as source:
        while data := source.read(65536):
            tail += data
            del tail[:-KEPT_BYTES]
            while data:
                data = data[os.write(2, data) :]
