"""A cloud on this machine, of one host unless said otherwise, beside any other that runs here, for benchmarks that need one;
gone afterwards."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "bench"
DEADLINE_S = 120.0


class Cloud:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://[::1]:{self.port}"
        self.environment = {"UCLOUD_API": self.url, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    def up(self, *options: str) -> None:
        self.run("up", "--name", NAME, "--state", str(self.directory / "state"), "--port", str(self.port), *options)

    def down(self) -> None:
        self.run("down", "--wipe", "--name", NAME)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--name", NAME, "-o", "json")))

    def run(self, *arguments: str) -> str:
        """What `ucloud …` prints. Raises when it fails, after showing why."""
        done = subprocess.run(command(*arguments), env=self.environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            done.check_returncode()
        return done.stdout

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command(*arguments), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def logs(self) -> list[Path]:
        """The serial logs of all guests, where they are written to first."""
        return list((self.directory / "state" / "run" / "h1" / "vm").glob("*/log/serial"))


@contextmanager
def cloud(*options: str) -> Iterator[Cloud]:
    """It is up inside the block, and nothing of it is left after it. options: of `ucloud up`."""
    with tempfile.TemporaryDirectory(prefix="ub-") as name:  # short: there are sockets below it
        directory = Path(name)
        directory.chmod(0o711)  # guests' users pass through
        running = Cloud(directory)
        try:
            running.up(*options)
            yield running
        finally:
            running.down()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ucloud.daemon.main", *arguments]


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(holds: Callable[[], bool], what: str, pause_s: float = 0.01, deadline_s: float = DEADLINE_S) -> None:
    until_s = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > until_s:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(pause_s)
