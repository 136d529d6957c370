"""A machine beside the hosts of a cloud of `ucloud up`, which may join it: a network namespace with a cable to their switch,
directories of its own, and no daemons at first. For the benchmark and the tests of joining.

Guests on it are pretended. A cloud of `ucloud up` listens for its own machine alone; `listening` adds an API for others.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from bench.cloud import wait_for
from bench.processes import Process, environment
from ucloud.base import config
from ucloud.daemon import platform, systemd, underlay
from ucloud.daemon.cloud import Cloud
from ucloud.daemon.teardown import KILL_S, end
from ucloud.driver.hypervisor.fake import GuestDirectory
from ucloud.driver.process.contract import Process as Found

API_PORT = 8642
HIDE_SYSTEMD = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run/systemd && exec "$@"', "hidden")
UCLOUD = (sys.executable, "-m", "ucloud.daemon.main")


class Machine:
    """number: of its place in the hosts' network, which none of the cloud's own hosts has, below 10."""

    def __init__(self, plan: Cloud, number: int, directory: Path) -> None:
        self.place, self.directory = f"h{number}", directory / f"h{number}"
        self.state_dir, self.run_dir = self.directory / "state", self.directory / "run"
        self.file = self.directory / "ucloud.toml"
        self._plan, self._links = plan, platform.links()

    def connect(self) -> None:
        self.directory.mkdir()
        self._links.add_namespace(self._namespace)
        underlay.add_host(self._plan, self.place, self._links)

    def join(self, url: str, token: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`ucloud host join`, run on it until that ends."""
        process = self.start_join(url, token, *options)
        said, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, said, errors)

    def start_join(self, url: str, token: str, *options: str) -> "subprocess.Popen[str]":
        hiding = HIDE_SYSTEMD if systemd.runs() else ()  # which is this machine's, and not that one's
        words = [*hiding, *UCLOUD, "host", "join", url, token, "--config", str(self.file), *options]
        own = {"STATE_DIR": str(self.state_dir), "RUN_DIR": str(self.run_dir), "HYPERVISOR": "fake"}
        return subprocess.Popen(
            platform.processes().inside_command(self._namespace, words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | {f"UCLOUD_HOST_{name}": value for name, value in own.items()},
        )

    @property
    def settings(self) -> config.Config:
        return config.load(str(self.file), {})

    def guests(self) -> list[str]:
        """VMs that run on it."""
        return [vm for vm, trace in GuestDirectory(self.run_dir / "fake").items() if trace.guest]

    def log(self, daemon: str) -> str:
        return (self.state_dir / "log" / f"{daemon}.log").read_text()

    def cut(self) -> None:
        underlay.unplug(self._plan, self.place, self._links)

    def heal(self) -> None:
        underlay.plug(self._plan, self.place, self._links)

    def kill(self, daemon: str) -> None:
        self._signal(daemon, signal.SIGKILL)

    def stop_daemons(self) -> None:
        """In order."""
        self._signal("node", signal.SIGTERM)
        wait_for(lambda: not self._processes(), f"the end of the daemons of {self.place}", pause_s=0.05)

    def remove(self) -> None:
        """It, and all that runs on it."""
        while processes := self._processes():
            end(processes, signal.SIGKILL, KILL_S)
        self._links.remove_interface(self._plan.underlay, self.place)
        self._links.remove_namespace(self._namespace)
        shutil.rmtree(self.directory)

    def _signal(self, daemon: str, number: signal.Signals) -> None:
        [process] = [found for found in self._processes() if found.command[-4:-2] == ("daemon", daemon)]
        platform.processes().send(process, number)

    @property
    def _namespace(self) -> str:
        return self._plan.namespace(self.place)

    def _processes(self) -> list[Found]:
        """One of its daemons leaves the namespace."""
        inside = {process.pid for process in platform.processes().inside(self._namespace)}
        running = platform.processes().running()
        return [process for process in running if process.pid in inside or str(self.file) in process.command]


@contextmanager
def machine(plan: Cloud, number: int, directory: Path) -> Iterator[Machine]:
    found = Machine(plan, number, directory)
    try:
        found.connect()
        yield found
    finally:
        found.remove()


@contextmanager
def listening(plan: Cloud, directory: Path) -> Iterator[str]:
    """The URL of an API of this cloud that listens for all machines; it runs on the first host."""
    host = plan.hosts[0]
    url = f"http://[{plan.address(host)}]:{API_PORT}"
    settings = replace(plan.config(host), api=config.Api(socket="", listen=url.removeprefix("http://")))
    file = directory / "api.toml"
    file.write_text(config.to_toml(settings))
    command = platform.processes().inside_command(plan.namespace(host), [*UCLOUD, "daemon", "api", "--config", str(file)])
    api = Process("api", command, directory / "api.log")
    api.start()
    try:
        yield url
    finally:
        api.kill()
