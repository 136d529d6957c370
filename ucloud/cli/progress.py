"""Waiting, with progress in words on stderr: one line that changes on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from ucloud.base.errors import Error, Temporary
from ucloud.cli.output import printable
from ucloud.cli.together import Tell, each
from ucloud.client import Client, Json, TimedOut

T = TypeVar("T")

HINT_S = 5.0  # whoever waits longer wants to know what he can do


class Failed(Error):
    """The action ended with an error."""

    code = "failed"


class Interrupted(Error):
    """Ctrl-C while waiting."""

    code = "interrupted"


@contextmanager
def telling() -> Iterator[Tell]:
    """What is told twice in a row is said once."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines()
        return
    words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (SpinnerColumn("line"), words, TimeElapsedColumn(table_column=Column(no_wrap=True)))
    with Progress(*columns, console=console, transient=True, expand=True, refresh_per_second=4) as live:
        task = live.add_task("", total=None)
        yield lambda text: live.update(task, description=printable(text)) if text else None


def _lines() -> Tell:
    began_s, last = time.monotonic(), ""

    def tell(text: str) -> None:
        nonlocal last
        if text and text != last:
            passed_s = time.monotonic() - began_s
            click.echo(printable(text) + (f" ({passed_s:.0f} s)" if passed_s >= 1 else ""), err=True)
        last = text or last

    return tell


def ask_each(names: Sequence[str], ask: Callable[[str], T]) -> dict[str, T]:
    """Asks for all at once; answers by name. What is refused is told; the refusal is raised where all are refused alike."""
    try:
        with telling() as tell:
            tell(f"asking for {len(names)}" if len(names) > 1 else "")
            answers = each(names, lambda index, _: ask(names[index]), lambda _: None)
    except KeyboardInterrupt:
        raise Interrupted("some of it may have been asked for; see: ucloud vm list") from None
    refusals = {name: answer for name, answer in zip(names, answers, strict=True) if isinstance(answer, Error)}
    if len(refusals) == len(names) and len({error.message for error in refusals.values()}) == 1:
        raise refusals[names[0]]
    for name, error in refusals.items():
        click.echo(printable(f"Error: {name}: {error.message}"), err=True)
    accepted = {name: answer for name, answer in zip(names, answers, strict=True) if not isinstance(answer, Error)}
    if not accepted:
        refuse_less({}, names)
    return accepted


def refuse_less(done: Mapping[str, object], names: Sequence[str]) -> None:
    """Raises Failed where some are missing."""
    if len(done) < len(names):
        raise Failed(f"{len(names) - len(done)} of {len(names)} were refused")


def wait(client: Client, actions: list[tuple[str, Json]], timeout_s: float, look: str, hint: str = "") -> list[Json]:
    """Until all have ended; each with the name of what it is about. `hint`: what to do if it takes long. The actions as they
    ended, in the same order.

    Raises Failed; and TimedOut, Temporary or Interrupted, which say that the work goes on and that `look` is the command to
    see how far it is.
    """
    began_s = time.monotonic()
    last = {name: str(action["progress"]) for name, action in actions}

    def wait_for(index: int, tell: Tell) -> Json:
        name, action = actions[index]

        def tell_progress(action: Json) -> None:
            last[name] = action["progress"]
            passed_s = time.monotonic() - began_s
            tell(last[name] + (f" ({action['error']})" if action["error"] else "") + (hint if passed_s > HINT_S else ""))

        return client.wait(action, max(began_s + timeout_s - time.monotonic(), 0), tell_progress)

    try:
        with telling() as tell:
            ended = each([name for name, _ in actions], wait_for, tell)
    except KeyboardInterrupt:
        raise Interrupted(f"{_names(actions)}: no longer waiting; the work goes on, see: {look}") from None
    _judge({name: result for (name, _), result in zip(actions, ended, strict=True)}, last, timeout_s, look)
    return [action for action in ended if isinstance(action, dict)]


def _judge(ended: dict[str, Json | Error], last: dict[str, str], timeout_s: float, look: str) -> None:
    """Raises what wait() promises: what failed, or else why the first is not waited for any more."""
    going_on = {name: end for name, end in ended.items() if isinstance(end, Error)}
    failed = [f"{name}: {end['error']}" for name, end in ended.items() if isinstance(end, dict) and end["state"] == "error"]
    if failed:
        raise Failed("; ".join(failed) + (f"; {len(going_on)} more are not done yet, see: {look}" if going_on else ""))
    for name, error in going_on.items():
        who = name + (f" (and {len(going_on) - 1} more)" if len(going_on) > 1 else "")
        if isinstance(error, TimedOut):
            raise TimedOut(f"{who}: after {timeout_s:g} s it is still {last[name]}; the work goes on, see: {look}")
        if isinstance(error, Temporary):
            message = f"{who}: no longer waiting: {error.message}; the work goes on, see: {look}"
            raise type(error)(message, error.retry_s, error.details)
        raise error


def _names(actions: list[tuple[str, Json]]) -> str:
    first = ", ".join(name for name, _ in actions[:3])
    return first + (f" and {len(actions) - 3} more" if len(actions) > 3 else "")
