"""Several requests and waits at once: what is told meanwhile, and what in the end."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ucloud.base.errors import Error, NoCapacity, NotFound, Temporary
from ucloud.cli import progress
from ucloud.cli.progress import Failed, Interrupted, ask_each
from ucloud.cli.together import Tell, each
from ucloud.client import Json, TimedOut


def test_each_answers_in_order_and_tells_how_many_are_done() -> None:
    told: list[str] = []
    names = [f"vm-{number}" for number in range(20)]
    all_began = threading.Barrier(8)

    def do(index: int, tell: Tell) -> str:
        if index < 8:
            all_began.wait(60)  # so many are under way at once
        tell("starting")
        if index == 3:
            raise NotFound("gone")
        return names[index]

    results = each(names, do, told.append)
    assert [str(result) for result in results] == [*names[:3], "gone", *names[4:]]
    assert told[-1] == "20 of 20 done"
    assert re.fullmatch(r"0 of 20 done; vm-\d+: starting", told[0])


def test_what_one_says_is_told_without_numbers() -> None:
    told: list[str] = []
    each(["web"], lambda index, tell: tell("starting"), told.append)
    assert told == ["web: starting", ""]


def test_a_bug_in_a_thread_is_a_bug_here() -> None:
    with pytest.raises(ZeroDivisionError):
        each(["a", "b"], lambda index, tell: 1 // 0, lambda _: None)


class Waits:
    """A client whose actions end as told; `None` is Ctrl-C."""

    def __init__(self, **ends: str | Error | None) -> None:
        self.ends = ends

    def wait(self, action: Json, timeout_s: float, on_progress: Callable[[Json], None]) -> Json:
        on_progress({"progress": "starting: waiting for disk and guest", "error": None})
        end = self.ends[action["id"]]
        if end is None:
            raise KeyboardInterrupt
        if isinstance(end, Error):
            raise end
        return {"state": "error" if end else "success", "error": end or None}

    def outcome(self) -> Any:
        actions = [(name, {"id": name, "progress": "pending"}) for name in self.ends]
        progress.wait(self, actions, 300, look="ucloud vm list")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ends", "kind", "message"),
    [
        ({"a": "no disk", "b": ""}, Failed, "a: no disk"),
        ({"a": "no disk", "b": "no net"}, Failed, "a: no disk; b: no net"),
        ({"a": "no disk", "b": TimedOut("")}, Failed, "a: no disk; 1 more are not done yet, see: ucloud vm list"),
        (
            {"a": "", "b": TimedOut("")},
            TimedOut,
            "b: after 300 s it is still starting: waiting for disk and guest; the work goes on, see: ucloud vm list",
        ),
        (
            {"a": Temporary("no etcd"), "b": Temporary("no etcd")},
            Temporary,
            "a (and 1 more): no longer waiting: no etcd; the work goes on, see: ucloud vm list",
        ),
        ({"a": NotFound("there is no such action")}, NotFound, "there is no such action"),
        ({"a": None, "b": ""}, Interrupted, "a, b: no longer waiting; the work goes on, see: ucloud vm list"),
        (
            dict.fromkeys("abcde"),
            Interrupted,
            "a, b, c and 2 more: no longer waiting; the work goes on, see: ucloud vm list",
        ),
    ],
)
def test_what_is_said_in_the_end(ends: dict[str, Any], kind: type[Error], message: str) -> None:
    with pytest.raises(kind) as raised:
        Waits(**ends).outcome()
    assert (type(raised.value), raised.value.message) == (kind, message)


def test_all_is_well() -> None:
    Waits(a="", b="").outcome()


def test_a_long_wait_says_what_one_can_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "HINT_S", -1)
    progress.wait(Waits(web=""), [("web", {"id": "web", "progress": ""})], 9, "", "; or now: …")  # type: ignore[arg-type]
    assert capsys.readouterr().err == "web: starting: waiting for disk and guest; or now: …\n"


def refuse(name: str) -> str:
    if name == "good":
        return name
    raise NoCapacity("no room" if name != "odd" else "odd")


def test_what_is_refused_is_told_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_each(["good", "bad"], refuse) == {"good": "good"}
    assert capsys.readouterr().err == "asking for 2\nError: bad: no room\n"
    with pytest.raises(NoCapacity, match="no room"):
        ask_each(["bad", "worse"], refuse)
    with pytest.raises(Failed, match="2 of 2 were refused"):
        ask_each(["bad", "odd"], refuse)
