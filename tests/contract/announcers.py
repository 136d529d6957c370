"""Announcers for the contract tests: the fake, and bird in a network namespace of its own, cabled to a router's."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.leftovers import cloud_name
from ucloud.driver.announcer import bird, bird_config
from ucloud.driver.announcer.bird import BirdAnnouncer
from ucloud.driver.announcer.contract import Announcer
from ucloud.driver.announcer.fake import FakeAnnouncer, World
from ucloud.driver.link.contract import End
from ucloud.driver.link.linux import LinuxLinks

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
UNDERLAY, HOST, ROUTER = "fd00:aa::/64", "fd00:aa::1", "fd00:aa::ffff"
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
    """A host whose daemon works in a namespace, in a thread, as the real one does as a process."""

    def __init__(self, directory: Path, namespace: str) -> None:
        self.directory, self.namespace = directory, namespace
        self._daemon = ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,))

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
        return self._daemon.submit(function).result()

    def close(self) -> None:
        self.announcer([]).end()
        self._daemon.shutdown()

    def _found(self) -> bird.Process | None:
        return bird.find(self.directory / "bird")


def enter(namespace: str) -> None:
    with Path("/run/netns", namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


@contextmanager
def two_namespaces() -> Iterator[tuple[str, str]]:
    """A host's and a router's, cabled."""
    links, names = LinuxLinks(), (f"{cloud_name('a')}-h1", f"{cloud_name('a')}-router")
    try:
        for name in names:
            links.add_namespace(name)
        ends = [End(name, "up0", address=f"{address}/64") for name, address in zip(names, (HOST, ROUTER), strict=True)]
        links.add_cable(*ends)
        yield names
    finally:
        for name in names:
            links.remove_namespace(name)


@contextmanager
def router(directory: Path, namespace: str) -> Iterator[None]:
    """bird as `ucloud up` runs it."""
    file = directory / "router.conf"
    file.write_text(bird_config.router(address=ROUTER, interface="up0", hosts=UNDERLAY, **NUMBERS))  # type: ignore[arg-type]
    command = ["nsenter", f"--net=/run/netns/{namespace}", "bird", "-f", "-c", file, "-s", directory / "router.ctl"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def is_root() -> bool:
    return os.geteuid() == 0
