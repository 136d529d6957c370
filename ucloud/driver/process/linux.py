"""Processes of Linux, by /proc, prctl, and util-linux's setpriv and nsenter."""

import ctypes
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ucloud.driver.process.contract import Process

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 2, 36, 38
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CLONE_NEWNET = 0x40000000
TCP_LISTEN = "0A"
PROC = Path("/proc")
NAMESPACES = Path("/run/netns")


class LinuxProcesses:
    def daemon_command(self, namespace: str, command: Sequence[str]) -> list[str]:
        """Not `ip netns exec`: that gives it mounts of its own, and the guests' would be out of sight."""
        return ["setpriv", "--pdeathsig", "TERM", *self.inside_command(namespace, command)]

    def inside_command(self, namespace: str, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={NAMESPACES / namespace}", *command] if namespace else [*command]

    def adopt_orphans(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    def become(self, user: int) -> None:
        at_death = ctypes.c_int()
        prctl(PR_GET_PDEATHSIG, ctypes.byref(at_death))
        call("unshare", CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)  # which takes all capabilities
        prctl(PR_SET_PDEATHSIG, at_death.value)  # the kernel has forgotten it
        prctl(PR_SET_NO_NEW_PRIVS, 1)

    def hurry(self) -> None:
        with suppress(OSError):  # not allowed in some containers
            call("mlockall", MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("-1000")

    def send(self, process: Process, number: signal.Signals) -> None:
        if self.is_alive(process):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                return

    def is_alive(self, process: Process) -> bool:
        """A process that ends loses its command first, and then, thread by thread, its files and sockets."""
        if command := command_of(PROC / str(process.pid)):
            return command == process.command
        return status_of(process.pid)[:1] not in ([], ["Z"]) or threads_of(process.pid) > 1

    def is_stopped(self, process: Process) -> bool:
        return status_of(process.pid)[:1] == ["T"]

    def running(self) -> Iterator[Process]:
        for directory in PROC.iterdir():
            if directory.name.isdigit() and (command := command_of(directory)):
                yield Process(int(directory.name), command)

    def inside(self, namespace: str) -> Iterable[Process]:
        try:
            wanted = (NAMESPACES / namespace).stat()
        except FileNotFoundError:
            return []
        return [process for process in self.running() if net_namespace(process.pid) == (wanted.st_dev, wanted.st_ino)]

    def working_below(self, directory: Path) -> Iterable[Process]:
        below = directory.resolve()
        return [process for process in self.running() if below in working_directory(process.pid).parents]

    def with_descendants(self, processes: Iterable[Process]) -> Iterable[Process]:
        found = {process.pid: process for process in processes}
        running = {process: parent_of(process.pid) for process in self.running()}
        while more := [process for process, parent in running.items() if parent in found and process.pid not in found]:
            found |= {process.pid: process for process in more}
        return found.values()

    def listening(self, port: int) -> Process | None:
        sockets = {f"socket:[{inode}]" for inode in listeners(port)}
        return next((process for process in self.running() if sockets & open_files(process.pid)), None) if sockets else None


def prctl(option: int, argument: Any) -> None:
    call("prctl", option, argument, 0, 0, 0)


def call(name: str, *arguments: Any) -> None:
    """Of the system's library."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def command_of(directory: Path) -> tuple[str, ...]:
    """Empty for kernel threads, and for what has just ended."""
    try:
        text = (directory / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(part) for part in text.rstrip(b"\0").split(b"\0")) if text else ()


def status_of(pid: int) -> list[str]:
    """proc(5): its state, its parent, … Empty when it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def threads_of(pid: int) -> int:
    try:
        return len(os.listdir(PROC / str(pid) / "task"))
    except OSError:
        return 0


def parent_of(pid: int) -> int:
    status = status_of(pid)
    return int(status[1]) if status else 0


def working_directory(pid: int) -> Path:
    try:
        return Path(os.readlink(PROC / str(pid) / "cwd"))
    except OSError:
        return Path()


def net_namespace(pid: int) -> tuple[int, int]:
    try:
        found = (PROC / str(pid) / "ns/net").stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def listeners(port: int) -> set[str]:
    rows = [line.split() for line in (PROC / "self/net/tcp6").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == TCP_LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def open_files(pid: int) -> set[str]:
    files: set[str] = set()
    try:
        for file in (PROC / str(pid) / "fd").iterdir():
            files.add(os.readlink(file))
    except OSError:
        pass  # it, or this file, is gone; or it is not ours to see
    return files
