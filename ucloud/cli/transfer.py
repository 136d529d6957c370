"""How far an upload is, on stderr: a bar with rate and remaining time on a terminal; elsewhere a line every tenth of what
takes long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ucloud.cli.output import bytes_size, printable

Tell = Callable[[str, int, int], None]

WORDS = {"checksum": "computing the checksum", "upload": "uploading"}
LINES = 10
QUIET_S = 1.0  # between two lines, at least


@contextmanager
def telling_bytes(name: str) -> Iterator[Tell]:
    """Gives `tell(what, bytes_done, bytes_in_all)`, what being a key of WORDS."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lines(name, lambda text: click.echo(printable(text), err=True))
        return
    numbers = (DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), BarColumn(), *numbers, console=console, transient=True) as live:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = live.add_task(WORDS[what], total=total)
            live.update(tasks[what], completed=done)

        yield advance


def lines(name: str, say: Callable[[str], None], now_s: Callable[[], float] = time.monotonic) -> Tell:
    """The first one comes at once, and then none for a while; the last one only if others came before."""
    began: dict[str, tuple[float, int]] = {}  # by what is done: when, and after how many bytes
    said: dict[str, tuple[float, int]] = {}  # by what is done: when a line was said, and of which tenth

    def tell(what: str, done: int, total: int) -> None:
        began_s, first = began.setdefault(what, (now_s(), done))
        tenth = done * LINES // total
        said_s, last = said.get(what, (float("-inf"), -1))
        if last < tenth and now_s() - said_s >= QUIET_S:
            said[what] = (now_s(), tenth)
            rate = (done - first) / max(now_s() - began_s, 0.001)
            left = f", {bytes_size(round(rate))}/s, {(total - done) / rate:.0f} s left" if rate and done < total else ""
            say(f"{name}: {WORDS[what]}: {done * 100 // total} % of {bytes_size(total)}{left}")

    return tell
