"""Results, on stdout: as a table for people, as JSON, or as bare names for scripts."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import click

from ucloud.client import Json

Columns: TypeAlias = Mapping[str, Callable[[Json], object]]


def show_list(things: Sequence[Json], columns: Columns, output: str) -> None:
    if output == "json":
        show_json(things)
    elif output == "name":
        show_names(things)
    else:
        show_table([list(columns), *([str(cell(thing)) for cell in columns.values()] for thing in things)])


def show_one(thing: Json, output: str) -> None:
    if output == "json":
        show_json(thing)
    elif output == "name":
        show_names([thing])
    else:
        show_table([[f"{name}:", as_text(name, value)] for name, value in thing.items()])


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_names(things: Sequence[Json]) -> None:
    for thing in things:
        click.echo(printable(thing["name"]))


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell, never cut off: ids must be copied whole."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def as_text(name: str, value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if name.endswith("_mib"):
        return size(value)
    if isinstance(value, dict) and {"what", "who", "since"} <= set(value):
        since = f" since {value['since']}" if value["since"] else ""
        return f"{value['what']} ({value['who']}{since})"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def size(mib: int) -> str:
    """The largest unit that leaves a whole number: 512M, 2G."""
    for unit in ("M", "G"):
        if mib % 1024 or not mib:
            return f"{mib}{unit}"
        mib //= 1024
    return f"{mib}T"


def bytes_size(number: int) -> str:
    value, unit = float(number), "B"
    for larger in ("K", "M", "G", "T"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{number}B" if unit == "B" else f"{value:.1f}{unit}"


def printable(text: str) -> str:
    """What comes from elsewhere must not steer the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)
