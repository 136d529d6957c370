"""What runs in confinement can do no harm, and ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ucloud.base.errors import Temporary
from ucloud.driver.pool import confine
from ucloud.driver.pool.confine import Finished, Limits

Run = Callable[..., Finished]
FEW = Limits(cpu_s=10, wall_s=30, memory_mib=512, write_mib=1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "hostile").write_bytes(b"content")
    (tmp_path / "hostile").chmod(0o444)

    def run(script: str, limits: Limits = FEW, output: str = "") -> Finished:
        return confine.run(["sh", "-c", script], limits, tmp_path, "hostile", output)

    return run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    output = tmp_path / "output"
    output.touch(0o600)
    os.chown(output, confine.UID, confine.UID)
    return output


def test_it_sees_its_file_and_no_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"secret")
    (tmp_path / "other").chmod(0o444)
    assert run("cat /file").printed == b"content"
    for path in ("/etc/passwd", "/proc/1/root/etc/passwd", f"{tmp_path}/other", "/dev/null", "/root", "/var", "/home"):
        finished = run(f"cat {path} || ls {path}")
        assert (finished.ok, finished.printed) == (False, b""), path


def test_it_is_nobody_and_can_write_nothing(run: Run) -> None:
    assert run("id -u; id -G").printed.split() == [str(confine.UID).encode()] * 2
    for attempt in ("echo x > /file", "echo x > /new", "echo x > /usr/new", "echo x > /output", "chroot /usr /bin/true"):
        assert not run(f"{attempt} && echo done").printed, attempt


def test_it_has_no_network(run: Run) -> None:
    (link,) = run("ip -o link").printed.decode().splitlines()
    assert ": lo:" in link
    assert "state DOWN" in link
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "unreachable" in run(f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'").message


def test_it_writes_its_output_up_to_the_limit(run: Run, output: Path) -> None:
    assert run("cat /file > /output", output="output").ok
    assert output.read_bytes() == b"content"
    assert not run("head -c 5000000 /usr/bin/* > /output", output="output").ok
    assert output.stat().st_size == 1024 * 1024


@pytest.mark.parametrize(
    ("script", "cpu_s", "wall_s"),
    [
        ("while :; do :; done", 1, 60),
        ("sleep 1234567", 10, 1),
        ("trap '' TERM XCPU; (sleep 1234567 & sleep 1234567) & sleep 1234567", 10, 1),
    ],
    ids=["cpu", "wall", "children"],
)
def test_it_dies_at_its_limits_with_all_its_children(run: Run, script: str, cpu_s: int, wall_s: int) -> None:
    assert run(script, Limits(cpu_s=cpu_s, wall_s=wall_s, memory_mib=512, write_mib=1)).killed
    left = subprocess.run(["ps", "-U", str(confine.UID), "-o", "pid=,args="], capture_output=True, text=True).stdout
    assert "1234567" not in left
    assert "while" not in left


def test_it_cannot_outlive_a_killed_caller(tmp_path: Path) -> None:
    """Its own deadline ends it, whoever else is gone."""
    os.mkfifo(tmp_path / "gone")
    caller = """
import sys
from pathlib import Path
from ucloud.driver.pool import confine
limits = confine.Limits(cpu_s=5, wall_s=2, memory_mib=512, write_mib=1)
confine.run(["sh", "-c", "echo begun >/output; sleep 7654321"], limits, Path(sys.argv[1]), "hostile", "gone")
"""
    (tmp_path / "hostile").touch(0o444)
    os.chown(tmp_path / "gone", confine.UID, confine.UID)
    with subprocess.Popen([sys.executable, "-c", caller, tmp_path]) as process, (tmp_path / "gone").open() as gone:
        assert gone.readline() == "begun\n"
        process.kill()
    deadline_s = time.monotonic() + 60
    while "7654321" in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_memory_is_limited(run: Run, output: Path) -> None:
    finished = run("dd if=/usr/bin/sh of=/output bs=1G count=1", output="output")
    assert not finished.ok
    assert "memory" in finished.message


def test_nothing_stays_mounted_and_a_missing_file_is_temporary(run: Run, tmp_path: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    run("true")
    with pytest.raises(Temporary):
        confine.run(["true"], FEW, tmp_path, "missing")
    with pytest.raises(Temporary):
        confine.run(["no-such-program"], FEW, tmp_path, "hostile")
    assert Path("/proc/self/mounts").read_text() == mounts
