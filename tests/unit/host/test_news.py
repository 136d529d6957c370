"""What of a host's steps becomes an event."""

from collections.abc import Mapping

import pytest

from tests.unit.world import NOW_S, manifest, status
from ucloud.host.decide import Act, World, decide
from ucloud.host.news import is_worth_telling, news_of
from ucloud.model.guest import Guest, GuestState
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Status


def told(has: Status | None, wanted: Manifest, state: GuestState | None = None, **more: Mapping[str, str]) -> str:
    """Verb and reason of what is told of the next step; "" where nothing is."""
    guests = {"vm-a": Guest(vm="vm-a", epoch=1, boots=1, state=state)} if state else {}
    world = World(
        host="host-1",
        manifests={"vm-a": Fact(wanted.key, wanted, 1)},
        statuses={"vm-a": Fact(has.key, has, 1)} if has else {},
        guests=guests,
        **more,  # type: ignore[arg-type]
    )
    step = decide(world, NOW_S)["vm-a"]
    news = news_of(step, has, guests.get("vm-a"))
    return f"{news.verb}: {news.reason}" if news else ""


def test_a_life() -> None:
    assert told(None, manifest()) == "starting: boot 1"
    assert told(status(phase="starting"), manifest()) == "", "the act itself; that it runs is told when it does"
    assert told(status(phase="starting"), manifest(), "running") == "running: boot 1"
    assert told(status(), manifest(want="stopped"), "running") == "stopping: told to stop"
    assert told(status(phase="stopping"), manifest(want="stopped")) == "stopped: boot 1"
    assert told(status(), manifest(), "powered-off") == "powered-off: its guest shut itself down, boot 1"
    assert told(status(phase="off"), manifest(), "powered-off") == "", "what is killed then is only a shell"
    assert told(status(phase="stopped"), manifest(boots=2)) == "starting: boot 2"


def test_power_that_is_cut() -> None:
    assert told(status(), manifest(want="stopped", hard=True), "running") == "killed: told to stop at once"
    deaf = {"asked_s": {"vm-a": 100.0}}
    assert "did not power down" in told(status(phase="stopping"), manifest(want="stopped"), "running", **deaf)  # type: ignore[arg-type]


def test_crashes() -> None:
    assert told(status(), manifest()) == "crashed: the guest's process ended unexpectedly; crash 1 of boot 1"
    assert told(status(crashes=4), manifest()) == "", "the fifth"
    assert told(status(crashes=7), manifest()).endswith("crash 8 of boot 1")
    assert told(status(phase="starting", crashes=5), manifest(), "running") == "", "it runs again, for the fifth time"
    assert [crashes for crashes in range(1, 70) if is_worth_telling(crashes)] == [1, 2, 3, 4, 8, 16, 32, 64]


def test_what_fails_is_told_once() -> None:
    full = {"errors": {"vm-a": "start: no space"}, "held": frozenset({("vm-a", "start")})}
    assert told(status(phase="starting"), manifest(), **full) == "failed: start: no space"  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["start", "power-down", "erase"])
def test_acts_that_are_told_by_what_they_bring_about(verb: str) -> None:
    assert news_of(Act(verb=verb, vm="vm-a", reason="because"), None, None) is None  # type: ignore[arg-type]
