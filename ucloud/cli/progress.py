"""Waiting, with progress in words on stderr: a line that changes on a terminal, lines that stay elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ucloud.base.errors import Error, Temporary
from ucloud.cli.output import printable
from ucloud.client import Client, Json, TimedOut

Tell = Callable[[str], None]


class Failed(Error):
    """The action ended with an error."""

    code = "failed"


class Interrupted(Error):
    """Ctrl-C while waiting."""

    code = "interrupted"


@contextmanager
def telling() -> Iterator[Tell]:
    """What is told twice in a row is said once."""
    console = Console(stderr=True, highlight=False, markup=False)
    last = ""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(printable(text))
        return

    def line(text: str) -> None:
        nonlocal last
        if text != last:
            click.echo(printable(text), err=True)
        last = text

    yield line


def wait(client: Client, actions: list[tuple[str, Json]], timeout_s: float, look: str) -> None:
    """Until all have ended; each with the name of what it is about. Raises Failed; and TimedOut, Temporary or Interrupted,
    which say that the work goes on and that `look` is the command to see how far it is."""
    failed = []
    with telling() as tell:
        for name, action in actions:

            def tell_progress(action: Json, name: str = name) -> None:
                error = f" ({action['error']})" if action["error"] else ""
                tell(f"{name}: {action['progress']}{error}")

            try:
                ended = client.wait(action, timeout_s, tell_progress)
            except TimedOut as error:
                raise TimedOut(f"{name}: {error.message}; the work goes on, see: {look}") from None
            except Temporary as error:
                message = f"{name}: no longer waiting: {error.message}; the work goes on, see: {look}"
                raise type(error)(message, error.retry_s, error.details) from None
            except KeyboardInterrupt:
                raise Interrupted(f"{name}: no longer waiting; the work goes on, see: {look}") from None
            if ended["state"] == "error":
                failed.append(f"{name}: {ended['error']}")
    if failed:
        raise Failed("; ".join(failed))


@contextmanager
def telling_bytes(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """Progress of an upload: a bar on a terminal, a line when each part begins elsewhere."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        with telling() as tell:
            words = {"checksum": "computing the checksum", "upload": "uploading"}
            yield lambda what, done, total: tell(f"{name}: {words[what]}")
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True
    ) as bar:
        tasks: dict[str, object] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield advance
