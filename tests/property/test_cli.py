"""Whatever is typed: no traceback, no hang, and an exit code that says done, failed, or wrong usage."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.golden.served import served
from tests.unit.api.pubkeys import KEYS
from ucloud.cli.main import main

ENDLESS = {("vm", "console"), ("vm", "ssh"), ("event", "watch")}  # they end when somebody says so
FOLLOW = {"-f", "--follow"}


def words(command: click.Command) -> list[str]:
    """All that can be said after it: its options, and what it contains."""
    options = [text for option in command.params if isinstance(option, click.Option) for text in option.opts]
    return [text for text in (*options, *getattr(command, "commands", {})) if text not in FOLLOW]


def verbs() -> Iterator[tuple[str, ...]]:
    for noun, group in main.commands.items():
        yield from ((noun, verb) for verb in getattr(group, "commands", {}) if (noun, verb) not in ENDLESS)
        if not isinstance(group, click.Group):
            yield (noun,)


VERBS = sorted(verbs())
NAMES = ["web", "tiny", "h1", "default", "slow", "vm-01h00000000000000000000000"]
VALUES = [
    *NAMES,
    "web-1",
    "../x",
    "..",
    "",
    "1",
    "0",
    "-1",
    "3",
    "512M",
    "2G",
    "a=b",
    "a-",
    "=",
    "json",
    "name",
    "-",
    "--",
    "*",
]
VALUES += [
    "delete_protection=true",
    "tiny.qcow2",
    "vm",
    "list",
    "bash",
    "phases",
    "99999999999999999999",
    "rack=r1",
    "ra,dhcp",
    "role=db",
    "default=true",
    "me.pub",
    "fd12::/64",
    "10.1.0.0/24",
    "\x1b[31m",
]
typed = st.one_of(st.sampled_from(VALUES), st.text(st.characters(exclude_characters="\0"), max_size=8))  # no argument has a NUL


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    verb = draw(st.sampled_from(VERBS))
    command: click.Command = main
    for word in verb:
        command = command.commands[word]  # type: ignore[attr-defined]
    after = st.one_of(st.sampled_from(words(command) or ["--help"]), typed)
    return [*verb, *draw(st.lists(after, max_size=6))]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory, before = tmp_path_factory.mktemp("home"), Path.cwd()
    os.chdir(directory)
    (directory / "tiny.qcow2").write_bytes(b"an image")
    (directory / "me.pub").write_text(KEYS[0])
    with served() as api:
        api.hands.idle.clear()
        yield {"UCLOUD_API": api.url, "HOME": str(directory), "COLUMNS": "40"}
    os.chdir(before)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(line=st.one_of(lines(), st.lists(typed, max_size=4)))
@example(line=["vm", "create", "web", "--image", "tiny"])
@example(line=["vm", "create", "x", "--image", "tiny", "--count", "3"])
@example(line=["key", "add", "me", "--file", "me.pub"])
@example(line=["vm", "set", "web", "--key", "me", "--user-data", "me.pub", "role=db", "role-"])
@example(line=["vm", "attach", "web", "default"])
@example(line=["vm", "list", "--label", "\udcff"])
@example(line=["vm", "stop", "web", "--timeout", "nan"])
@example(line=["vm", "delete", "web", "\x1f"])
def test_any_line_is_answered(line: list[str], surroundings: dict[str, str]) -> None:
    if FOLLOW & set(line) or tuple(line[:2]) in ENDLESS:
        return
    result = CliRunner().invoke(main, line, prog_name="ucloud", env=surroundings)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1, 2)
    assert result.exit_code == 0 or result.output
    assert all(character.isprintable() or character in "\n\t" for character in result.stderr)
