"""A terminal whose every key goes to somebody else, but for those after Ctrl-]. Used by console.py."""

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ESCAPE = 0x1D  # Ctrl-]


class Keys:
    """Tells what is typed from what is asked for: `feed` yields bytes that go to the guest, and the key after Ctrl-] as text.
    is_asking: Ctrl-] came last, so the next key decides."""

    def __init__(self) -> None:
        self.is_asking = False

    def feed(self, typed: bytes) -> Iterator[bytes | str]:
        while typed:
            if self.is_asking:
                self.is_asking = False
                yield chr(typed[0])
                typed = typed[1:]
                continue
            data, escape, typed = typed.partition(bytes([ESCAPE]))
            self.is_asking = bool(escape)
            if data:
                yield data


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key comes at once and means nothing to the terminal itself. As before in the end, also on SIGTERM and SIGHUP, which
    end the program with 1."""
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(1)


def size_command(descriptor: int) -> bytes:
    """What tells a shell on a serial line how large this terminal is: the line itself cannot."""
    columns, rows = os.get_terminal_size(descriptor)
    return f"stty rows {rows} cols {columns}\r".encode()
