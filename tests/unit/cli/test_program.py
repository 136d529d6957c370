"""The program in surroundings that nobody wishes for: each has its message and its exit code, and none a traceback."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.served import Served, served
from tests.unit.cli.program import COMMAND, on_terminal, run, start

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def api() -> Iterator[Served]:
    with served() as api:
        api.hands.idle.add("tardy")
        api.cloud.add_vm("a-name-that-is-much-longer-than-any-narrow-terminal-is-wide", labels={"tier": "front"})
        yield api


@pytest.fixture
def environment(api: Served, tmp_path: Path) -> dict[str, str]:
    return {"UCLOUD_API": api.url, "HOME": str(tmp_path)}


def test_all_is_well_without_any_home(environment: dict[str, str]) -> None:
    for home in ({"HOME": "/nonexistent"}, {"HOME": ""}, {"XDG_CONFIG_HOME": "/dev/null"}):
        assert run("vm", "list", environment=environment | home).returncode == 0
    del environment["HOME"]
    assert run("vm", "list", environment=environment).returncode == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"api = [", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"apy = 1", "there is no setting 'apy'"),
        (b"api = ['ftp://x']", "is no address"),
        (None, "cannot be read"),  # a directory
    ],
)
def test_a_bad_client_toml_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / ".config" / "ucloud" / "client.toml"
    path.mkdir(parents=True) if content is None else path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    done = run("vm", "list", environment={"HOME": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {path}")
    assert message in done.stderr
    assert "Correct it, or say where the API is with --api." in done.stderr


@pytest.mark.parametrize("arguments", [["vm", "list"], ["vm", "list", "-o", "json"], ["--help"], ["help", "phases"]])
def test_a_reader_that_goes_away_is_no_reason_for_words(environment: dict[str, str], arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, environment=environment, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["vm", "list"], ["vm", "log", "hello"], ["--help"], ["--version"], ["help", "phases"]])
def test_a_full_disk_is_said(api: Served, environment: dict[str, str], arguments: list[str]) -> None:
    if "log" in arguments:
        run("vm", "create", "hello", "--image", "tiny", environment=environment)
    with open("/dev/full", "w") as full:
        done = run(*arguments, environment=environment, stdout=full)
    assert (done.returncode, done.stderr) == (1, "Error: the output: No space left on device\n")
    with open("/dev/full", "w") as full:
        assert run(*arguments, environment=environment, stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize("columns", [20, 40, 80])
@pytest.mark.parametrize("arguments", [["vm", "list"], ["vm", "show"], ["host", "list"], ["pool", "list"], ["image", "list"]])
def test_nothing_is_wider_than_the_terminal(
    api: Served, environment: dict[str, str], arguments: list[str], columns: int
) -> None:
    vm = [run("vm", "list", "-o", "name", environment=environment).stdout.split()[0]] if arguments[1] == "show" else []
    code, shown = on_terminal(*arguments, *vm, environment=environment, columns=columns)
    assert code == 0, shown
    assert max(map(len, shown.splitlines())) <= columns
    if arguments == ["vm", "list"]:
        assert shown.startswith("NAME")
        assert "PHASE" in shown
        assert "…" in shown


def test_what_is_closed_is_no_reason_to_stumble(environment: dict[str, str]) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        line = f'"$@" vm list {closed}'
        done = subprocess.run(["bash", "-c", line, "", *COMMAND], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), closed
        assert bool(done.stdout) == (closed == "2>&-")
    line = '"$@" --api http://[::1]:1 vm list 2>&-'
    assert subprocess.run(["bash", "-c", line, "", *COMMAND], env=environment, check=False).returncode == 1


def test_a_pipe_gets_all_whatever_the_environment_says(environment: dict[str, str]) -> None:
    wide = run("vm", "list", environment=environment).stdout
    assert run("vm", "list", environment=environment | {"COLUMNS": "20"}).stdout == wide
    assert "…" not in wide


@pytest.mark.parametrize(
    "surroundings",
    [{"LANG": "C"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}, {"TERM": "dumb"}],
)
def test_any_encoding_will_do(environment: dict[str, str], surroundings: dict[str, str]) -> None:
    for arguments in (["vm", "list"], ["help", "output"], ["vm", "show", "nöpe"], ["vm", "start", "hello"], ["--help"]):
        done = run(*arguments, environment=environment | surroundings)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr
        code, shown = on_terminal(*arguments, environment=environment | surroundings, columns=20)
        assert code == done.returncode
        assert "Traceback" not in shown


def test_no_color(environment: dict[str, str]) -> None:
    code, shown = on_terminal("vm", "create", "plain", "--image", "tiny", environment=environment | {"NO_COLOR": "1"})
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*m", shown.replace("\x1b[0m", ""))


def test_progress_on_a_terminal_is_one_line_that_is_rewritten(environment: dict[str, str]) -> None:
    run("vm", "create", "tardy", "--image", "tiny", "--no-wait", environment=environment)
    code, shown = on_terminal("vm", "start", "tardy", "--timeout", "2", environment=environment, columns=40)
    assert code == 1
    progress, _, error = shown.partition("Error:")
    assert "the work goes on, see: ucloud vm show tardy" in " ".join(error.split("\n"))
    assert progress.count("\n") <= 2
    frames = [CONTROL.sub("", frame).strip("\n") for frame in progress.split("\r")]
    assert len(frames) > 3
    assert max(map(len, frames)) <= 40
    assert any("tardy: pending: waiting" in frame and "…" in frame for frame in frames), frames


@pytest.mark.parametrize("columns", [20, 80])
def test_an_upload_on_a_terminal_has_a_bar(environment: dict[str, str], tmp_path: Path, columns: int) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(b"x" * (8 << 20))
    upload = ("image", "upload", f"disk-{columns}", str(file))
    code, shown = on_terminal(*upload, environment=environment, columns=columns)
    assert code == 0, shown
    frames = [CONTROL.sub("", frame) for frame in re.split("[\r\n]", shown)]
    bars = [frame for frame in frames if frame.startswith("uploading")]
    assert bars, frames
    if columns == 80:
        assert re.search(r" 8\.0/8\.0 MiB +(\?|[0-9.]+ .?B/s) +0:00:00$", bars[-1]), bars
    assert max(map(len, bars)) <= columns


def test_ctrl_c_says_that_the_work_goes_on(api: Served, environment: dict[str, str]) -> None:
    with start("vm", "create", "slow", "--image", "tiny", environment=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("slow: pending: waiting for the scheduler to choose a host")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 1
    assert rest.endswith("Error: slow: no longer waiting; the work goes on, see: ucloud vm show slow\n")
    assert run("vm", "show", "slow", "-o", "name", environment=environment).stdout == "slow\n"


def test_completion_knows_verbs_and_real_names(environment: dict[str, str]) -> None:
    def complete(words: str) -> list[str]:
        number = str(len(words.split(" ")) - 1)
        asked = {"_UCLOUD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
        done = run(environment=environment | asked)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert complete("ucloud vm cr") == ["create"]
    assert complete("ucloud pool ") == ["add", "list", "set", "show"]
    assert complete("ucloud vm create x --image ti") == ["tiny"]
    assert complete("ucloud vm delete a-name-that-is") == ["a-name-that-is-much-longer-than-any-narrow-terminal-is-wide"]
    assert complete("ucloud host show h") == ["h1"]
    assert complete("ucloud vm attach slow def") == ["default"]
    assert complete("ucloud vm create x --image tiny --network def") == ["default"]
    assert complete("ucloud help ph") == ["phases"]
    environment["UCLOUD_API"] = "http://[::1]:1"
    assert complete("ucloud vm show ") == []
    environment["UCLOUD_API"] = "nonsense"
    assert complete("ucloud vm show ") == []


def test_bash_understands_the_script(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash", environment=environment).stdout)
    bash = f"source {script}; complete -p ucloud"
    done = subprocess.run(["bash", "--norc", "-c", bash], capture_output=True, text=True, check=True)
    assert "_ucloud_completion ucloud" in done.stdout
