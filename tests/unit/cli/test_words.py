"""How values are read, and how they are shown."""

import json

import click
import pytest
from click.testing import CliRunner

from ucloud.cli.main import main
from ucloud.cli.options import Label, LabelChange, Seconds, Setting, Size
from ucloud.cli.output import GuestOutput, as_text, bytes_size, cut, fit, printable, show_list, show_table, size
from ucloud.cli.port import Allowed
from ucloud.cli.topic import topics
from ucloud.cli.vmset import Word


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


def test_what_a_guest_may_do() -> None:
    assert Allowed().convert("dhcp,ra,dhcp", None, None) == ["dhcp", "ra"]
    for text in ("", "ra,", "all", "RA"):
        with pytest.raises(click.BadParameter):
            Allowed().convert(text, None, None)


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
    show_list([{"name": "\x9b31m\x7f\ud800\U000e0001"}], {}, "json")
    out = capsys.readouterr().out
    assert json.loads(out) == [{"name": "\x9b31m\x7f\ud800\U000e0001"}]
    assert printable(out.replace("\n", "")) == out.replace("\n", "")


HEAD = ["NAME", "PHASE", "HOST", "CPUS", "ID"]
WIDTHS = [10, 7, 4, 4, 29]


@pytest.mark.parametrize(
    ("available", "kept"),
    [
        (None, WIDTHS),
        (200, WIDTHS),
        (62, WIDTHS),
        (61, [10, 7, 4, 4]),  # a part of an id is of no use
        (33, [10, 7, 4, 4]),
        (30, [10, 7, 4]),
        (20, [9, 7]),
        (10, [3, 3]),
        (1, [1, 1]),
    ],
)
def test_columns_are_left_out_from_the_right_before_names_are_cut(available: int | None, kept: list[int]) -> None:
    assert fit(HEAD, WIDTHS, available) == kept


def test_long_columns_shrink_before_others_are_left_out() -> None:
    assert fit(["NAME", "PHASE", "REASON"], [63, 7, 200], 80) == [34, 7, 35]
    assert fit(["ID", "NAME"], [29, 40], 50) == [29, 19]
    assert cut("a-long-name", 5) == "a-lo…"
    assert cut("short", 5) == "short"


def test_label_changes() -> None:
    assert LabelChange().convert("tier=front", None, None) == ("tier", "front")
    assert LabelChange().convert("tier-", None, None) == ("tier", None)
    assert LabelChange().convert("tier=a-", None, None) == ("tier", "a-")
    for text in ("-", "tier", ""):
        with pytest.raises(click.BadParameter):
            LabelChange().convert(text, None, None)


def test_settings() -> None:
    kind = Setting({"on": {"true": True, "false": False}})
    assert kind.convert("on=true", None, None) == ("on", True)
    for text in ("on", "on=", "on=yes", "off=true", ""):
        with pytest.raises(click.BadParameter, match="give on=true|false"):
            kind.convert(text, None, None)


def test_what_a_guest_is_told_is_told_apart_from_settings() -> None:
    given = {"role=db": ("role", "db"), "role=": ("role", ""), "role-": ("role", None), "a=b=c": ("a", "b=c")}
    assert {text: Word().convert(text, None, None) for text in given} == given
    assert Word().convert("delete_protection=true", None, None) == ("delete_protection", True)
    for text in ("delete_protection=yes", "delete_protection-", "delete-protection=true", "role", "=x", ""):
        with pytest.raises(click.BadParameter):
            Word().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e3", "1,5", "1" * 10, "²"])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)
    assert Seconds().convert("0.5", None, None) == 0.5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm lst", "there is no command 'lst'; did you mean list"),
        ("vm rm", "there is no command 'rm'; did you mean delete?"),
        ("vm logs", "there is no command 'logs'; did you mean log?"),
        ("pool create", "there is no command 'create'"),
        ("vms", "there is no command 'vms'; did you mean vm?"),
        ("server list", "there is no command 'server'; did you mean vm?"),
        ("launch", "there is no command 'launch'; did you mean vm create?"),
        ("ssh web", "there is no command 'ssh'; did you mean vm ssh?"),
        ("key create", "there is no command 'create'; did you mean add?"),
        ("keypair list", "there is no command 'keypair'; did you mean key?"),
        ("list", "there is no command 'list'; did you mean vm list?"),
        ("xyzzy", "there is no command 'xyzzy'"),
        ("help phase", "there is no topic or command 'phase'; did you mean phases?"),
        ("help vm craete", "there is no topic or command 'craete'; did you mean create?"),
    ],
)
def test_did_you_mean(line: str, words: str) -> None:
    result = CliRunner().invoke(main, line.split(), prog_name="ucloud")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {words}")


def test_topics_are_short_texts_and_listed() -> None:
    listed = CliRunner().invoke(main, ["help"], prog_name="ucloud").stdout
    assert set(topics()) >= {
        "config",
        "start",
        "concepts",
        "phases",
        "errors",
        "labels",
        "spread",
        "images",
        "lab",
        "networks",
        "keys",
    }
    for name, text in topics().items():
        first, empty, *_ = text.splitlines()
        assert f"{name} " in listed
        assert first in listed
        assert empty == ""
        assert max(map(len, text.splitlines())) <= 80
        assert CliRunner().invoke(main, ["help", name], prog_name="ucloud").stdout == text


def test_help_of_a_command_is_that_of_the_command() -> None:
    asked = CliRunner().invoke(main, ["help", "vm", "create"], prog_name="ucloud").stdout
    assert asked == CliRunner().invoke(main, ["vm", "create", "--help"], prog_name="ucloud").stdout


def test_a_guest_cannot_steer_the_terminal_nor_split_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ucloud.cli.output.terminal_width", lambda: 80)
    shown = GuestOutput()
    for piece in (b"gr\xc3", b"\xbc\xc3\x9fe\r", b"\n\x1b[31mred\x07\ttab\xff\n"):
        shown.show(piece)
    assert capsys.readouterr().out == "grüße\n�[31mred�\ttab�\n"
