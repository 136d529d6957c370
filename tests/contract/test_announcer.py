"""The contract of announcers, on the fake and on bird; and what bird tells a router that it does not know."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.announcers import HOST, PUBLIC, ROUTER, Bird, Fake, is_watched, router
from tests.namespaces import Namespace, Underlay, ip, underlay
from ucloud.base.errors import Temporary
from ucloud.driver.announcer import bird_config
from ucloud.driver.announcer.bird import BirdAnnouncer
from ucloud.driver.overlay.names import ROUTE_PRIVATE, ROUTE_PUBLIC

DEADLINE_S = 60.0
NET = PUBLIC.removesuffix("::/56")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def net() -> Iterator[Underlay]:
    """Of a host and a router."""
    with underlay(2) as made:
        yield made


@pytest.fixture
def bird(tmp_path: Path, net: Underlay) -> Iterator[Bird]:
    side = Bird(tmp_path, net.hosts[0])
    yield side
    side.close()


@pytest.fixture(params=["fake", pytest.param("bird", marks=needs_root)])
def side(request: pytest.FixtureRequest) -> Fake | Bird:
    found: Fake | Bird = Fake() if request.param == "fake" else request.getfixturevalue("bird")
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.02)


def test_it_runs_until_it_is_ended(side: Fake | Bird) -> None:
    announcer = side.announcer([ROUTER])
    assert not side.runs()
    assert side.call(announcer.keep) is False
    wait_until(side.runs, "it runs")
    assert side.call(announcer.keep) is False
    side.call(announcer.end)
    assert not side.runs()
    side.call(announcer.end)
    assert side.call(announcer.keep) is False, "it had been ended: nothing was lost"


def test_what_was_killed_is_started_again_and_said(side: Fake | Bird) -> None:
    announcer = side.announcer([ROUTER])
    side.call(announcer.keep)
    wait_until(side.runs, "it runs")
    side.kill()
    assert side.call(announcer.keep) is True
    wait_until(side.runs, "it runs again")
    assert side.call(announcer.keep) is False


def test_the_next_daemon_finds_it(side: Fake | Bird) -> None:
    side.call(side.announcer([ROUTER]).keep)
    wait_until(side.runs, "it runs")
    assert side.call(side.announcer([ROUTER]).keep) is False
    side.kill()
    assert side.call(side.announcer([ROUTER]).keep) is True
    wait_until(side.runs, "it runs")
    side.call(side.announcer([ROUTER]).end)
    assert not side.runs()


def test_without_routers_there_is_none(side: Fake | Bird) -> None:
    assert side.call(side.announcer([]).keep) is False
    assert not side.runs()
    side.call(side.announcer([ROUTER]).keep)
    wait_until(side.runs, "it runs")
    assert side.call(side.announcer([]).keep) is False
    assert not side.runs()


def routes(place: Namespace) -> list[str]:
    """What the router was told."""
    with place:
        shown = subprocess.run(["ip", "-6", "-j", "route", "show", "proto", "bird"], capture_output=True, check=True).stdout
    return sorted(f"{route['dst']} via {route['gateway']}" for route in json.loads(shown))


def change_route(place: Namespace, change: str, address: str, protocol: int) -> None:
    with place:
        ip(f"route {change} {address} dev up0 proto {protocol}")


@needs_root
def test_a_router_knows_the_public_addresses_that_are_here(tmp_path: Path, net: Underlay, bird: Bird) -> None:
    host, outside = net.hosts
    announcer = bird.announcer([ROUTER])
    with router(tmp_path, outside):
        bird.call(announcer.keep)
        change_route(host, "add", f"{NET}::1", ROUTE_PRIVATE)
        change_route(host, "add", "fd00:cc::1", ROUTE_PUBLIC)  # not the operator's prefix
        change_route(host, "add", f"{NET}::/64", ROUTE_PUBLIC)  # not a single address
        change_route(host, "add", f"{NET}::2", ROUTE_PUBLIC)
        wait_until(lambda: routes(outside) == [f"{NET}::2 via {HOST}"], "the router knows one address")
        change_route(host, "add", f"{NET}::3", ROUTE_PUBLIC)
        change_route(host, "del", f"{NET}::2", ROUTE_PUBLIC)
        wait_until(lambda: routes(outside) == [f"{NET}::3 via {HOST}"], "the router knows the other one")
        bird.kill()
        wait_until(lambda: routes(outside) == [], "who is gone announces nothing")
        bird.call(announcer.keep)
        wait_until(lambda: routes(outside) == [f"{NET}::3 via {HOST}"], "the router knows it again")
        bird.call(announcer.end)
        wait_until(lambda: routes(outside) == [], "who ended announces nothing")


@needs_root
def test_a_host_that_falls_silent_is_forgotten_by_bfd(
    tmp_path: Path, net: Underlay, bird: Bird, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = bird_config.SESSION.replace(f"hold time {bird_config.BGP_HOLD_S};", "hold time 600;")
    monkeypatch.setattr(bird_config, "SESSION", slow)  # BGP itself would notice after this test
    host, outside = net.hosts
    with router(tmp_path, outside):
        change_route(host, "add", f"{NET}::2", ROUTE_PUBLIC)
        bird.call(bird.announcer([ROUTER]).keep)
        wait_until(lambda: routes(outside) == [f"{NET}::2 via {HOST}"], "the router knows the address")
        wait_until(lambda: is_watched(tmp_path), "BFD is up")
        with net.switch:
            ip("link set port1 down")
        wait_until(lambda: routes(outside) == [], "the router forgets it")
        with net.switch:
            ip("link set port1 up")
        wait_until(lambda: routes(outside) == [f"{NET}::2 via {HOST}"], "the router knows it again")


@needs_root
def test_settings_that_bird_refuses_are_said_and_the_old_ones_stay(bird: Bird) -> None:
    announcer = bird.announcer([ROUTER])
    bird.call(announcer.keep)
    wait_until(bird.runs, "it runs")
    wrong = BirdAnnouncer(bird.directory, HOST, [ROUTER], host_as=0, router_as=65000, prefixes=[PUBLIC])
    with pytest.raises(Temporary, match="bird refuses its settings: .*bird.new:"):
        bird.call(wrong.keep)
    assert bird.call(announcer.keep) is False
    assert bird.runs()
