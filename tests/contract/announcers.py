"""Announcers for the contract tests: the fake, and bird on a host that is cabled to a router."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.namespaces import Namespace, Underlay
from ucloud.driver.announcer import bird, bird_config
from ucloud.driver.announcer.bird import BirdAnnouncer
from ucloud.driver.announcer.contract import Announcer
from ucloud.driver.announcer.fake import FakeAnnouncer, World
from ucloud.driver.process.held import Held

T = TypeVar("T")

UNDERLAY, HOST, ROUTER = "fd00:aa::/64", Underlay.address(1), Underlay.address(2)
PUBLIC = "fd00:bb:0:100::/56"
NUMBERS = {"host_as": 65001, "router_as": 65000, "prefixes": [PUBLIC]}


class Fake:
    def __init__(self) -> None:
        self.world = World()

    def announcer(self, routers: list[str]) -> Announcer:
        """As the next daemon of the host makes it."""
        return FakeAnnouncer(routers, self.world)

    def runs(self) -> bool:
        return self.world.runs

    def kill(self) -> None:
        self.announcer([]).die()  # type: ignore[attr-defined]

    def call(self, function: Callable[[], T]) -> T:
        return function()


class Bird:
    def __init__(self, directory: Path, host: Namespace) -> None:
        self.directory, self._host = directory, host

    def announcer(self, routers: list[str]) -> Announcer:
        return BirdAnnouncer(self.directory, HOST, routers, **NUMBERS)  # type: ignore[arg-type]

    def runs(self) -> bool:
        return self._found() is not None

    def kill(self) -> None:
        process = self._found()
        assert process
        process.send(signal.SIGKILL)
        assert process.has_ended(10)

    def call(self, function: Callable[[], T]) -> T:
        """As the host's daemon, which works in its namespace."""
        with self._host:
            return function()

    def close(self) -> None:
        self.announcer([]).end()

    def _found(self) -> Held | None:
        return bird.find(self.directory / "bird")


def is_watched(directory: Path) -> bool:
    """Whether the router would notice the host's silence by BFD."""
    command = ["birdc", "-s", str(directory / "router.ctl"), "show bfd sessions"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return any(line.split()[::2][:2] == [HOST, "Up"] for line in shown.splitlines())


@contextmanager
def router(directory: Path, place: Namespace) -> Iterator[None]:
    """bird as `ucloud up` runs it."""
    file = directory / "router.conf"
    file.write_text(bird_config.router(address=ROUTER, interface="up0", hosts=UNDERLAY, **NUMBERS))  # type: ignore[arg-type]
    command = ["bird", "-f", "-c", str(file), "-s", str(directory / "router.ctl")]
    with place:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
