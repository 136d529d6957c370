"""The supervisor: keeps the daemons of a cloud on one machine running. `ucloud up` starts it, detached from the terminal.

What ends is started again after a pause that grows while it keeps ending; SIGHUP makes it look for new daemons. It adopts
and reaps what daemons leave behind (guests of a host daemon that was killed), and its own end takes the daemons with it, but
no guest. It knows nothing of what the daemons do. Everything happens in the main thread, because daemons end with the *thread*
that started them.
"""

import logging
import os
import signal
import socket
import time
from pathlib import Path

import msgspec

from ucloud.base import log as logs
from ucloud.daemon import forward, logfile, platform
from ucloud.daemon.cloud import Cloud, Daemon, load_cloud
from ucloud.daemon.lab_marks import Marks, locked

log = logging.getLogger("ucloud.supervisor")

SIGNALS = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STEADY_S = 30.0  # who ran for so long begins with the shortest pause again
NEEDS_S = 0.1  # how often to look for files that a daemon waits for
STOP_S = 12.0  # for each kind of daemon, then it is killed
STOPPING = (("host",), ("control", "api", "metadata"), ("lease", "deadman"), ("etcd", "router"))  # kinds, in this order
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
        return max(self._due_s - now_s, 0.0) if self._may_run() else NEEDS_S

    def _may_run(self) -> bool:
        return self.daemon.needs.exists() and not self._is_banned()

    def _is_banned(self) -> bool:
        return any(ban.exists() for ban in self.daemon.bans)

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
        if now_s - self.started_s > STEADY_S or self._is_banned():
            self._pause_s = FIRST_PAUSE_S
        log.warning("%s ended: process %d, %s", self.daemon.name, self.pid, exit)
        self.pid, self.exit = 0, exit
        self._due_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def signal(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def state(self) -> DaemonState:
        return DaemonState(self.daemon.name, self.pid, max(self.restarts, 0), self.exit)


def main(cloud: Cloud, listener: socket.socket) -> None:
    """Run until SIGTERM. `listener`: leads to the API. Raises Conflict when the cloud has a supervisor already."""
    with locked(cloud.run_dir):
        logs.setup(handler=logfile.bounded(cloud.log_dir / "supervisor.log"))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before there are threads: they inherit it
        platform.processes().adopt_orphans()
        family = Family(cloud)
        family.grow()
        forward.serve([listener, listen(cloud.socket)], family.servers)
        log.info("supervising %s in %s", cloud.name, cloud.state_dir)
        family.keep_running()
        for kinds in STOPPING:
            stop([child for child in family.children if child.daemon.kind in kinds], family.children)
        log.info("stopped")


def listen(path: Path) -> socket.socket:
    """A socket for root alone."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    listener.bind(str(path))
    os.umask(mask)
    listener.listen(128)
    return listener


class Family:
    """All daemons of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.children: list[Child] = []
        self.servers = forward.Servers()
        self._cloud, self._marks = cloud, Marks(cloud.marks_dir)

    def grow(self) -> None:
        """Take in the daemons that the cloud has got since the last time."""
        self._cloud = cloud = load_cloud(self._cloud.file)
        known = {child.daemon.name for child in self.children}
        for daemon in cloud.daemons():
            if daemon.name not in known:
                command = platform.processes().daemon_command(daemon.namespace, daemon.command)
                self.children.append(Child(daemon, command, logfile.pipe_to(cloud.log_dir / f"{daemon.name}.log")))
        self.servers.add([cloud.api_socket(host) for host in cloud.central_hosts])

    def keep_running(self) -> None:
        """Until SIGTERM or SIGINT."""
        while True:
            now_s = time.monotonic()
            self._start_due(now_s)
            came = signal.sigtimedwait(SIGNALS, min(child.wait_s(now_s) for child in self.children))
            if came and came.si_signo == signal.SIGHUP:
                self.grow()
            elif came and came.si_signo != signal.SIGCHLD:
                return
            if reap(self.children):
                publish(self._cloud, self.children)

    def _start_due(self, now_s: float) -> None:
        if any(child.wait_s(now_s) <= 0 for child in self.children):
            with self._marks.locked():  # who is told not to start now, does not
                for child in [child for child in self.children if child.wait_s(now_s) <= 0]:
                    child.start(now_s)
            publish(self._cloud, self.children)


def stop(children: list[Child], everyone: list[Child]) -> None:
    """All of these at once."""
    until_s = time.monotonic() + STOP_S
    for child in children:
        child.signal(signal.SIGTERM)
    while any(child.pid for child in children) and (left_s := until_s - time.monotonic()) > 0:
        signal.sigtimedwait({signal.SIGCHLD}, left_s)
        reap(everyone)
    for child in children:
        if child.pid:
            log.warning("%s did not stop within %.0f s: killed", child.daemon.name, STOP_S)
            child.signal(signal.SIGKILL)


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


def describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def daemon_environment() -> dict[str, str]:
    foreign = ("UCLOUD_", "ETCD")
    return {k: v for k, v in os.environ.items() if not k.startswith(foreign) or k.startswith(OWN_VARIABLES)}


def state_file(cloud: Cloud) -> Path:
    return cloud.run_dir / "daemons.json"


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
