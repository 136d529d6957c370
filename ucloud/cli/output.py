"""Results, on stdout: as a table for people, as JSON, or as bare names for scripts.

On a terminal nothing is wider than it, and nothing that comes from elsewhere steers it; elsewhere nothing is ever cut.
"""

import codecs
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import click

from ucloud.client import Json

Columns: TypeAlias = Mapping[str, Callable[[Json], object]]

GAP = "  "
MORE = "…"
WHOLE = {"ID", "ADDRESS", "IPV6"}  # a part of it is of no use
NARROW = 16  # cells to which other columns may shrink before one is left out
KEPT = 2  # columns that are never left out
MIN_TEXT = 24


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
        show_pairs([(f"{name}:", as_text(name, value)) for name, value in thing.items()])


def show_json(value: Any) -> None:
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" if sys.stdout else True
    text = json.dumps(value, indent=2, ensure_ascii=not is_utf8)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def show_names(things: Sequence[Json]) -> None:
    for thing in things:
        click.echo(printable(thing["name"]))


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the head. On a narrow terminal columns shrink, or are left out from the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    kept = fit(cells[0], widths, terminal_width())
    for row in cells:
        line = GAP.join(cut(cell, width).ljust(width) for cell, width in zip(row, kept, strict=False)).rstrip()
        click.echo(line + (f" {MORE}" if len(kept) < len(widths) and row is cells[0] else ""))


def fit(head: Sequence[str], widths: Sequence[int], available: int | None) -> list[int]:
    """The widths of the columns that are shown. available: None for as wide as need be."""
    if available is None:
        return list(widths)

    def least(shown: int) -> int:
        smallest = (width if name in WHOLE else min(width, NARROW) for name, width in zip(head, widths[:shown], strict=False))
        return sum(smallest) + len(GAP) * (shown - 1) + (len(MORE) + 1 if shown < len(widths) else 0)

    shown = len(widths)
    while shown > KEPT and least(shown) > available:
        shown -= 1
    kept = list(widths[:shown])
    room = available - len(GAP) * (shown - 1) - (len(MORE) + 1 if shown < len(widths) else 0)
    while sum(kept) > max(room, shown):
        widest = max(range(shown), key=lambda column: (head[column] not in WHOLE and kept[column] > 1, kept[column]))
        kept[widest] -= 1
    return kept


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + MORE


def show_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """A name and its text in each line. On a narrow terminal texts go on below, so that nothing of them is lost."""
    left, available = max(len(name) for name, _ in pairs) + len(GAP), terminal_width()
    for name, text in ((name, printable(text)) for name, text in pairs):
        if available is None or left + len(text) <= available:
            click.echo(f"{name.ljust(left)}{text}")
            continue
        indent = left if available - left >= MIN_TEXT else len(GAP)
        lines = textwrap.wrap(text, max(available - indent, 1), break_on_hyphens=False)
        if indent < left:
            click.echo(name)
        for index, line in enumerate(lines):
            click.echo((name if index == 0 and indent == left else "").ljust(indent) + line)


class GuestOutput:
    """What a guest wrote, piece by piece: as it is to a file or a pipe, without what steers the terminal to a terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a character

    def show(self, data: bytes) -> None:
        if terminal_width() is None:
            click.echo(data, nl=False)
            return
        text = self._decoder.decode(data).replace("\r", "")  # serial lines end with both
        click.echo("".join(c if c.isprintable() or c in "\n\t" else "�" for c in text), nl=False)


def terminal_width() -> int | None:
    """None where results go to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None


def as_text(name: str, value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if name.endswith("_mib"):
        return size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
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
