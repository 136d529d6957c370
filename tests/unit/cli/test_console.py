"""`ucloud vm console` and `vm log -f` as people use them: on a terminal, and between pipes. The guest is a fake that echoes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.api.console_server import DEADLINE_S, VM, Served
from tests.unit.cli.terminals import ROOT, Terminal
from ucloud.cli.keyboard import Keys

LEAVE = b"\x1d"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "api.sock")
    try:
        yield served
    finally:
        served.close()


def terminal(served: Served, *arguments: str) -> Terminal:
    return Terminal("--api", f"unix:{served.path}", "vm", *arguments)


def piped(served: Served, *arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ucloud.daemon.main", "--api", f"unix:{served.path}", "vm", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, timeout=DEADLINE_S, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("typed", "parts", "is_asking"),
    [
        ([b"abc"], [b"abc"], False),
        ([b"a\x1d"], [b"a"], True),
        ([b"\x1dr"], ["r"], False),
        ([b"a\x1d", b"rb"], [b"a", "r", b"b"], False),
        ([b"\x1d\x1d"], ["\x1d"], False),
        ([b"\xff\x1d]\x1dq\x1d"], [b"\xff", "]", "q"], True),
    ],
)
def test_keys(typed: list[bytes], parts: list[bytes | str], is_asking: bool) -> None:
    keys = Keys()
    assert [part for data in typed for part in keys.feed(data)] == parts
    assert keys.is_asking == is_asking


def test_typing_leaving_and_coming_back(served: Served) -> None:
    with terminal(served, "console", "web") as screen:
        screen.until("Leave with Ctrl-]")
        screen.until("boots 1")
        screen.type(b"hello\x03\x04\x1a")  # control characters are the guest's
        screen.until("hello\x03\x04\x1a")
        screen.type(b"\x1dr")
        screen.until("stty rows 33 cols 111\r")
        screen.type(b"\x1d]!")
        screen.until("\x1d!")
        screen.type(LEAVE)
        screen.until("leaving")
        assert screen.ends() == 0
    with terminal(served, "console", "web") as screen:
        screen.until("hello")
        screen.type(LEAVE + b"q")
        assert screen.ends() == 0


def test_two_terminals(served: Served) -> None:
    with terminal(served, "console", "web") as one, terminal(served, "console", VM, "--read-only") as other:
        one.until("boots 1")
        other.until("boots 1")
        other.type(b"NEVER")
        one.type(b"FIRST")
        other.until("FIRST")
        with terminal(served, "console", "web", "--take") as third:
            one.until("somebody else is typing")
            one.type(b"NEVER")
            one.until("not typed")
            third.until("boots 1")  # what is typed before its terminal is set is lost
            third.type(b"SECOND")
            other.until("SECOND")
            one.type(b"\x1dt")
            third.until("somebody else is typing")
        one.type(b"THIRD")
        other.until("THIRD")
        assert b"NEVER" not in other.seen
        for screen in (one, other):
            screen.type(LEAVE)
            assert screen.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_restored_by_signals(served: Served, number: signal.Signals) -> None:
    with terminal(served, "console", "web") as screen:
        screen.until("boots 1")
        screen.signal(number)
        assert screen.ends() == (0 if number is signal.SIGINT else 1)


def test_it_goes_on_when_the_guest_restarts_and_ends_when_the_vm_is_deleted(served: Served) -> None:
    with terminal(served, "console", "web") as screen:
        screen.until("boots 1")
        served.tell("restart")
        screen.until("boots 2")
        screen.type(b"still here")
        screen.until("still here")
        served.tell("delete")
        served.tell("forget")
        assert screen.ends() == 1
        assert b"there is no vm" in screen.seen


def test_between_pipes(served: Served) -> None:
    done = piped(served, "console", "web", "--leave-after", "1", typed=b"echoed\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"boots 1\nechoed\n")
    assert piped(served, "console", "nobody").returncode == 1
    refused = piped(served, "console", "idle")
    assert (refused.returncode, b"no host yet" in refused.stderr) == (1, True)


def test_a_followed_log(served: Served) -> None:
    with terminal(served, "log", "-f", "web") as screen:
        screen.until("boots 1")
        served.tell("restart")
        screen.until("boots 2")
        screen.signal(signal.SIGINT)
        assert screen.ends() == 0
    command = [sys.executable, "-m", "ucloud.daemon.main", "--api", f"unix:{served.path}", "vm", "log", "-f", "web"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout
        assert following.stdout.readline() == b"fake guest web epoch 1 boots 1\n"
        following.stdout.close()  # as `| head -1` does
        served.tell("restart")
        assert following.wait(DEADLINE_S) in (0, 1)
        assert b"Traceback" not in following.stderr.read()  # type: ignore[union-attr]
