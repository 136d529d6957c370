"""What cuts a dead host off a pool: the operator's command, and the fake beside it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cloud import wait_for
from ucloud.base.errors import Temporary
from ucloud.driver.fence.command import MOST_WORDS, CommandFence
from ucloud.driver.fence.contract import Fence
from ucloud.driver.fence.fake import FakeFence

HOST = ("h1; rm -rf /", "fd00::1", "host-1")


class Program:
    """What the operator wrote, with what it has been called with."""

    def __init__(self, directory: Path) -> None:
        self.file, self._calls = directory / "fence", directory / "calls"
        self.write("")

    def write(self, does: str) -> None:
        self.file.write_text(f'#!/bin/sh\necho "$#:$*" >>{self._calls}\n{does}\n')
        self.file.chmod(0o700)

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


Made = tuple[Fence, Callable[[bool], None]]


@pytest.fixture(params=["fake", "command"])
def made(request: pytest.FixtureRequest, program: Program) -> Made:
    """A fence, and what makes it work or not."""
    fake = FakeFence()
    if request.param == "fake":
        return fake, lambda works: setattr(fake, "error", "" if works else "no route")
    return CommandFence(f"{program.file}"), lambda works: program.write("" if works else "echo no route; exit 3")


def test_what_succeeds_is_the_proof_each_time(made: Made) -> None:
    fence, _ = made
    assert "nfs" in fence.cut_off("nfs", *HOST)
    assert "nfs" in fence.cut_off("nfs", *HOST)


def test_what_fails_says_why_and_may_succeed_later(made: Made) -> None:
    fence, make = made
    make(False)
    with pytest.raises(Temporary, match="no route"):
        fence.cut_off("nfs", *HOST)
    make(True)
    assert fence.cut_off("nfs", *HOST)


# The command alone.


def test_the_command_is_told_whom_to_cut_off_without_a_shell(program: Program) -> None:
    program.write(r'printf "expired\nreally\377"')
    proof = CommandFence(f"{program.file}").cut_off("nfs", *HOST)
    assert proof.startswith(f"{program.file} nfs h1; rm -rf /: expired")
    assert proof.endswith("(exit 0)")
    assert program.calls == ["4:nfs h1; rm -rf / fd00::1 host-1"]


def test_one_that_is_not_there_or_not_named_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(Temporary, match="no such file, or it is not executable"):
        CommandFence(str(tmp_path / "none")).cut_off("nfs", *HOST)
    with pytest.raises(Temporary, match="have no .control. fence_command"):
        CommandFence("").cut_off("nfs", *HOST)


def test_one_that_hangs_ends_with_all_that_it_has_started(program: Program, tmp_path: Path) -> None:
    program.write(f"sleep 600 & echo $! >{tmp_path}/child; wait")
    with pytest.raises(Temporary, match=r"did not end within 0\.5 s"):
        CommandFence(f"{program.file}", timeout_s=0.5).cut_off("nfs", *HOST)
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: is_over(child), "its child to be over")


def test_what_it_leaves_running_is_not_waited_for(program: Program, tmp_path: Path) -> None:
    program.write(f"sleep 600 & echo $! >{tmp_path}/child; echo done")
    try:
        assert "done" in CommandFence(f"{program.file}", timeout_s=300).cut_off("nfs", *HOST)
    finally:
        child = int((tmp_path / "child").read_text())
        assert not is_over(child)
        os.kill(child, signal.SIGKILL)


def test_of_endless_words_the_first_are_kept(program: Program) -> None:
    program.write("head -c 10000000 /dev/zero | tr '\\0' x")
    proof = CommandFence(f"{program.file}").cut_off("nfs", *HOST)
    assert f": {'x' * MOST_WORDS} (exit 0)" in proof


def is_over(pid: int) -> bool:
    """Also one that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True
