"""A program that runs in our place: who looks from outside sees but one."""

import os
import signal
import subprocess
import sys

import pytest

RUN = "import sys; from ucloud.cli.foreground import run; print(run(['/bin/sh', '-c', sys.argv[1]])); sys.stdout.flush()"
DEADLINE_S = 60


def start(script: str) -> "subprocess.Popen[str]":
    """In a process group of its own, as a shell would."""
    command, pipe = [sys.executable, "-c", RUN, script], subprocess.PIPE
    return subprocess.Popen(command, text=True, process_group=0, stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize(
    ("script", "status", "errors"),
    [
        ("exit 0", 0, ""),
        ("echo no >&2; exit 255", 255, "no\n"),
        ("kill -KILL $$", 128 + 9, ""),
        ("read -r line; echo $line >&2", 0, "typed\n"),
    ],
)
def test_exit_status_and_what_it_said(script: str, status: int, errors: str) -> None:
    with start(script) as process:
        out, said = process.communicate("typed\n", DEADLINE_S)
    assert (out, said) == (f"({status}, {errors!r})\n", errors)


def test_what_it_leaves_in_the_background_is_not_waited_for() -> None:
    with start("exec 3<&0; cat <&3 >/dev/null & echo soon >&2") as process:
        assert process.stdout
        assert process.stdout.readline() == "(0, 'soon\\n')\n"


def test_of_much_that_is_said_the_end_is_kept_and_all_is_passed_on() -> None:
    with start("yes | head -c 1000000 >&2; echo end >&2") as process:
        out, said = process.communicate(timeout=DEADLINE_S)
    assert len(said) == 1000000 + len("end\n")
    assert out.endswith("end\\n')\n")
    assert len(out) < 10000


@pytest.mark.parametrize("to_group", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_it(number: signal.Signals, to_group: bool) -> None:
    script = f"trap 'exit 7' {number.value}; echo ready; read -r line"
    with start(script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        (os.killpg if to_group else os.kill)(process.pid, number)
        assert process.stdout.readline() == "(7, '')\n"


def test_it_alone_decides_what_ctrl_c_does() -> None:
    with start("trap 'echo heard' INT; echo ready; read -r line; exit 3") as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "heard\n"
        process.stdin.close()
        assert process.stdout.readline() == "(3, '')\n"


def test_who_stops_it_stops_us_and_both_go_on() -> None:
    with start("kill -STOP $$; exit 5") as process:
        assert process.stdout
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == "(5, '')\n"
