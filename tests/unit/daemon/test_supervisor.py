"""When the supervisor starts a daemon again."""

from pathlib import Path

import pytest

from ucloud.base.errors import Conflict
from ucloud.daemon.cloud import Cloud, Daemon, Settings
from ucloud.daemon.lab_marks import locked
from ucloud.daemon.supervisor import (
    LONGEST_PAUSE_S,
    NEEDS_S,
    STEADY_S,
    Child,
    DaemonState,
    describe,
    publish,
    states,
)


def child(needs: Path) -> Child:
    """One that says that it runs: `true`, which nobody waits for here."""
    return Child(Daemon("x-1", "h1", "uc-h1", ("x",), needs, (needs.parent / "x-1.killed",)), ["true"], stderr=2)


def run(child: Child, from_s: float, for_s: float) -> float:
    """Let it start and end; answers the pause that follows."""
    child.pid, child.started_s = 1, from_s
    child.ended("exit 1", from_s + for_s)
    return child.wait_s(from_s + for_s)


def test_it_waits_for_what_it_needs(tmp_path: Path) -> None:
    waiting = child(tmp_path / "x.toml")
    assert waiting.wait_s(0.0) == NEEDS_S
    (tmp_path / "x.toml").touch()
    assert waiting.wait_s(0.0) == 0
    (tmp_path / "x-1.killed").touch()
    assert waiting.wait_s(0.0) == NEEDS_S


def test_what_was_killed_on_purpose_has_not_failed(tmp_path: Path) -> None:
    failing = child(tmp_path / "x.toml")
    (tmp_path / "x.toml").touch()
    pauses = [run(failing, 100.0 * i, 1.0) for i in range(5)]
    (tmp_path / "x-1.killed").touch()
    failing.pid = 1
    failing.ended("killed by SIGKILL", 600.0)
    (tmp_path / "x-1.killed").unlink()
    assert failing.wait_s(600.0) == pytest.approx(pauses[0])


def test_pauses_grow_to_a_bound_and_begin_anew_after_a_steady_run(tmp_path: Path) -> None:
    failing = child(tmp_path)
    pauses = [run(failing, 100.0 * i, 1.0) for i in range(10)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == LONGEST_PAUSE_S
    assert run(failing, 2000.0, STEADY_S + 1) == pytest.approx(pauses[0])


def test_what_status_shows(tmp_path: Path) -> None:
    failing = child(tmp_path)
    assert failing.state() == DaemonState("x-1")
    run(failing, 0.0, 1.0)
    assert failing.state().exit == "exit 1"
    assert describe(9) == "killed by SIGKILL"
    assert describe(2 << 8) == "exit 2"


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(Conflict), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_what_cannot_be_written_for_status_ends_nothing(tmp_path: Path) -> None:
    cloud = Cloud(Settings(), tmp_path, tmp_path / "missing")
    publish(cloud, [child(tmp_path)])
    assert states(cloud) == []
