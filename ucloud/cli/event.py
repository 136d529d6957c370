"""ucloud event …: what happened in the cloud, and why."""

import json
from contextlib import suppress

import click

from ucloud.cli.names import Reference
from ucloud.cli.notices import trying_again
from ucloud.cli.noun import Noun
from ucloud.cli.options import F, connect, output_option
from ucloud.cli.output import GAP, Columns, cut, printable, show_list, show_names, terminal_width
from ucloud.client import Json

NOUNS = ("vm", "image", "host")
COLUMNS: Columns = {
    "WHO": lambda event: event["who"],
    "WHAT": lambda event: event["verb"],
    "WHY": lambda event: event["reason"],
}


def about(event: Json) -> str:
    """vm/web, where the name is known."""
    noun = event["about"].partition("/")[0]
    return f"{noun}/{event['name']}" if event["name"] else str(event["about"])


LISTED: Columns = {"TIME": lambda event: short(event["time"]), "ABOUT": about, **COLUMNS}


def short(time: str) -> str:
    """Without fractions of a second: 2026-11-22T14:51:31Z."""
    return time[:19] + "Z"


@click.group(cls=Noun)
def event() -> None:
    """Events: what hosts and control loops did, and why."""


def about_options(function: F) -> F:
    for noun in reversed(NOUNS):
        function = click.option(f"--{noun}", type=Reference(noun), help=f"Only what happened to this {noun}.")(function)
    return click.option("--since", metavar="TIME", help="Only what happened then or later: 2026-11-22T14:51:31Z.")(function)


def wanted(things: dict[str, str | None]) -> str | None:
    """What `about` of the SDK takes. Raises UsageError for more than one thing."""
    named = [f"{noun}/{things[noun]}" for noun in NOUNS if things[noun]]
    if len(named) > 1:
        raise click.UsageError("give one of --vm, --image and --host")
    return named[0] if named else None


@event.command("list")
@about_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many, of the newest.")
@output_option
@click.pass_context
def list_(context: click.Context, /, since: str | None, limit: int, output: str, **things: str | None) -> None:
    """List what happened lately, the newest last.

    \b
    Example:
      ucloud event list --vm web
    """
    events = list(connect(context).events(wanted(things), since, limit))[::-1]
    if output == "name":
        show_names([{"name": about(event)} for event in events])
    else:
        show_list(events, LISTED, output)


@event.command()
@about_options
@output_option
@click.pass_context
def watch(context: click.Context, /, since: str | None, output: str, **things: str | None) -> None:
    """Print each event as it happens, until Ctrl-C.

    \b
    Example:
      ucloud event watch --host h1
    """
    width = terminal_width() if output != "json" else None
    with suppress(KeyboardInterrupt):
        for event in connect(context).follow_events(wanted(things), since, on_trouble=trying_again):
            text = line(event, output)
            click.echo(text if width is None else cut(text, width))


def line(event: Json, output: str) -> str:
    if output == "json":
        return json.dumps(event)
    return printable(about(event) if output == "name" else GAP.join(str(cell(event)) for cell in LISTED.values()))
