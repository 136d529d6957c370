"""The README's transcript is true: its commands are run, and what they print is compared but for ids, times and sizes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import wait_for
from tests.leftovers import ucloud

README = Path(__file__).parents[2] / "README.md"
VARYING = [
    (r"vm-[0-9a-z]{26}", "vm-ID"),
    (r"\bfd[0-9a-f:]{10,}", "ADDRESS"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"up after [0-9.]+ s", "up after N s"),
    (r"kernel \S+", "kernel N"),
    (r"have [0-9]+ cores? and [0-9]+ MiB", "have N cores and N MiB"),
    (r"memory [0-9]+ MiB", "memory N MiB"),
    (r"\b[0-9]+ (s|min)\b", "N s"),
    (r" {2,}", "  "),  # columns are as wide as what stands in them
]


def transcript() -> Iterator[tuple[str, str]]:
    """(command, what it prints) of the README's console block."""
    [block] = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def normalized(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.replace("\r", "").strip()


def appears(printed: str, said: str) -> bool:
    """Each line, whichever came first: a guest does several things at a time."""
    return all(line in said for line in printed.splitlines())


@pytest.mark.usefixtures("clean", "tiny")
def test_the_readme_is_true(cloud: RunningCloud) -> None:
    commands = 0
    for command, printed in transcript():
        program, *arguments = shlex.split(command)
        assert program == "ucloud"

        def said(arguments: list[str] = arguments) -> str:
            done = ucloud("--api", cloud.url, *arguments)
            return normalized(done.stdout if done.returncode == 0 else done.stdout + done.stderr)

        if arguments[:2] in (["vm", "log"], ["vm", "explain"]):  # a reader types more slowly than a test
            wait_for(lambda said=said, printed=printed: appears(normalized(printed), said()), f"what {command} prints")
        else:
            assert said() == normalized(printed), command
        commands += 1
    assert commands > 5
