"""How values are read, and how they are shown."""

import json

import click
import pytest

from ucloud.cli.options import Label, Size
from ucloud.cli.output import as_text, bytes_size, printable, show_list, show_table, size


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("512M", 512),
        ("2G", 2048),
        ("1.5g", 1536),
        ("1T", 2**20),
        ("2048K", 2),
        ("1024k", 1),
        ("999999999999T", 999999999999 * 2**20),
    ],
)
def test_sizes(text: str, mib: int) -> None:
    assert Size().convert(text, None, None) == mib


@pytest.mark.parametrize("text", ["", "512", "0M", "-1G", "1K", "1.0000001M", "G", "1 G", "1GB", "²M", "1e3M", "9" * 40 + "M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


def test_labels() -> None:
    assert Label().convert("a=b=c", None, None) == ("a", "b=c")
    assert Label().convert("a=", None, None) == ("a", "")
    for text in ("a", "=b", ""):
        with pytest.raises(click.BadParameter):
            Label().convert(text, None, None)


def test_sizes_are_shown_in_the_largest_unit_that_is_whole() -> None:
    assert [size(mib) for mib in (0, 1, 512, 1024, 1536, 2**20, 2**20 + 1024)] == [
        "0M",
        "1M",
        "512M",
        "1G",
        "1536M",
        "1T",
        "1025G",
    ]
    assert [bytes_size(n) for n in (0, 1023, 1024, 1536, 2**40, 2**51)] == ["0B", "1023B", "1.0K", "1.5K", "1.0T", "2048.0T"]


def test_values_for_people() -> None:
    waiting = {"what": "room", "who": "scheduler", "since": None}
    assert as_text("waiting_for", waiting) == "room (scheduler)"
    assert as_text("waiting_for", waiting | {"since": "noon"}) == "room (scheduler since noon)"
    assert [as_text("x", value) for value in (None, "", [], {}, 0, False, ["a", "b"])] == [
        "-",
        "-",
        "-",
        "-",
        "0",
        "no",
        "a, b",
    ]


def test_nothing_from_elsewhere_steers_the_terminal() -> None:
    assert printable("a\x1b[31mb\n") == "a�[31mb�"


def test_tables_line_up_and_json_is_bare(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([["A", "B"], ["long", ""], ["x", "y"]])
    assert capsys.readouterr().out == "A     B\nlong\nx     y\n"
    show_list([{"name": "é"}], {}, "json")
    out = capsys.readouterr().out
    assert json.loads(out) == [{"name": "é"}]
    assert "é" in out
