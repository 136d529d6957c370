"""The supervisor: keeps the daemons of a cloud on one machine running. `ucloud up` starts it, detached from the terminal.

What ends is started again after a pause that grows while it keeps ending. It adopts and reaps what daemons leave behind
(guests of a host daemon that was killed), and its own end takes the daemons with it, but no guest. It knows nothing of what
the daemons do. Everything happens in the main thread, because daemons end with the *thread* that started them.
"""

import fcntl
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ucloud.base import log as logs
from ucloud.base.errors import Conflict
from ucloud.daemon import forward, logfile, platform
from ucloud.daemon.cloud import Cloud, Daemon

log = logging.getLogger("ucloud.supervisor")

SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STEADY_S = 30.0  # who ran for so long begins with the shortest pause again
NEEDS_S = 0.1  # how often to look for a file that a daemon waits for
STOP_S = 12.0  # for each daemon, then it is killed
OWN_VARIABLES = ("UCLOUD_LOG_",)  # of all that ucloud or etcd could read; the rest stands in the configuration files


class DaemonState(msgspec.Struct, frozen=True):
    """What `ucloud status` shows. pid: 0 while it does not run. exit: how it ended the last time."""

    name: str
    pid: int = 0
    restarts: int = 0
    exit: str = ""


class Child:
    """One daemon, through all its restarts."""

    def __init__(self, daemon: Daemon, command: list[str], stderr: int) -> None:
        self.daemon = daemon
        self.pid, self.restarts, self.exit = 0, -1, ""
        self._command, self._stderr = command, stderr
        self.started_s, self._pause_s = 0.0, FIRST_PAUSE_S
        self._due_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long until there is something to do for it, if nothing happens."""
        if self.pid:
            return 3600.0
        return max(self._due_s - now_s, 0.0) if self.daemon.needs.exists() else NEEDS_S

    def start(self, now_s: float) -> None:
        self.pid = os.posix_spawnp(
            self._command[0],
            self._command,
            daemon_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, self._stderr, 1),
                (os.POSIX_SPAWN_DUP2, self._stderr, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE],  # which Python ignores
        )
        self.started_s = now_s
        self.restarts += 1
        log.info("%s started: process %d", self.daemon.name, self.pid)

    def ended(self, exit: str, now_s: float) -> None:
        if now_s - self.started_s > STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        log.warning("%s ended: process %d, %s", self.daemon.name, self.pid, exit)
        self.pid, self.exit = 0, exit
        self._due_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def state(self) -> DaemonState:
        return DaemonState(self.daemon.name, self.pid, max(self.restarts, 0), self.exit)


def main(cloud: Cloud, listener: socket.socket) -> None:
    """Run until SIGTERM. `listener`: forwarded to the API. Raises Conflict when the cloud has a supervisor already."""
    with locked(cloud.run_dir):
        logs.setup(handler=logfile.bounded(cloud.log_dir / "supervisor.log"))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before there are threads: they inherit it
        processes = platform.processes()
        processes.adopt_orphans()
        threading.Thread(target=forward.serve, args=(listener, cloud.socket), daemon=True).start()
        children = []
        for daemon in cloud.daemons():
            command = processes.daemon_command(daemon.namespace, daemon.command)
            children.append(Child(daemon, command, logfile.pipe_to(cloud.log_dir / f"{daemon.name}.log")))
        log.info("supervising %s in %s", cloud.name, cloud.state_dir)
        keep_running(children, lambda: publish(cloud, children))
        for child in reversed(children):
            stop(child, children)
        log.info("stopped")


def keep_running(children: list[Child], changed: Callable[[], None]) -> None:
    """Until SIGTERM or SIGINT."""
    while True:
        now_s = time.monotonic()
        due = [child for child in children if child.wait_s(now_s) <= 0]
        for child in due:
            child.start(now_s)
        if due:
            changed()
        came = signal.sigtimedwait(SIGNALS, min(child.wait_s(now_s) for child in children))
        if came and came.si_signo != signal.SIGCHLD:
            return
        if reap(children):
            changed()


def reap(children: list[Child]) -> bool:
    """Bury every dead child, adopted ones too. Answers whether a daemon was among them."""
    found = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        for child in children:
            if child.pid == pid:
                child.ended(describe(status), time.monotonic())
                found = True


def stop(child: Child, children: list[Child]) -> None:
    if not child.pid:
        return
    until_s = time.monotonic() + STOP_S
    os.kill(child.pid, signal.SIGTERM)
    while child.pid and (left_s := until_s - time.monotonic()) > 0:
        signal.sigtimedwait({signal.SIGCHLD}, left_s)
        reap(children)
    if child.pid:
        log.warning("%s did not stop within %.0f s: killed", child.daemon.name, STOP_S)
        os.kill(child.pid, signal.SIGKILL)


def describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def daemon_environment() -> dict[str, str]:
    foreign = ("UCLOUD_", "ETCD")
    return {k: v for k, v in os.environ.items() if not k.startswith(foreign) or k.startswith(OWN_VARIABLES)}


def state_file(cloud: Cloud) -> Path:
    return cloud.run_dir / "daemons.json"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """At most one process at a time is inside. Raises Conflict."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another process is working on {directory}") from None
        yield
    finally:
        os.close(descriptor)


def publish(cloud: Cloud, children: list[Child]) -> None:
    """For `ucloud status` alone: a full disk must not end the supervisor, and all daemons with it."""
    new = state_file(cloud).with_suffix(".new")
    try:
        new.write_bytes(msgspec.json.encode([child.state() for child in children]))
        new.rename(state_file(cloud))
    except OSError as error:
        log.warning("cannot write %s: %s", state_file(cloud), error)


def states(cloud: Cloud) -> list[DaemonState]:
    """What the supervisor last said of its daemons."""
    try:
        return msgspec.json.decode(state_file(cloud).read_bytes(), type=list[DaemonState])
    except FileNotFoundError:
        return []
