"""What ucloud needs of a system's processes to run a cloud on one machine: put them into namespaces, find them again.

Used by `ucloud up`, `lab` and the supervisor. "Now" is all that can be asked: a process that is found may be gone the next
moment.
"""

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class Process(msgspec.Struct, frozen=True):
    pid: int
    command: tuple[str, ...]


class Processes(Protocol):
    def daemon_command(self, namespace: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` inside a namespace ("": the caller's), as the same process, until whoever started it
        dies."""

    def inside_command(self, namespace: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` inside a namespace ("": the caller's), as the same process."""

    def adopt_orphans(self) -> None:
        """From now on this process is the parent of what its descendants leave behind."""

    def become(self, user: int) -> None:
        """From now on this process is that user and group alone, without any rights, and cannot get others. What it opens from
        now on reaches no network; sockets that it has go on."""

    def hurry(self) -> None:
        """For daemons on which lives depend: from now on this process' memory is never paged out, it runs before all others
        and ends after them when memory is short; as far as the system lets it."""

    def send(self, process: Process, number: signal.Signals) -> None:
        """Harmless when it is gone."""

    def is_alive(self, process: Process) -> bool: ...

    def is_stopped(self, process: Process) -> bool:
        """By a signal: it executes nothing until it is told to continue."""

    def running(self) -> Iterable[Process]: ...

    def inside(self, namespace: str) -> Iterable[Process]: ...

    def working_below(self, directory: Path) -> Iterable[Process]:
        """Those whose working directory is below this one, in whatever namespace they are."""

    def with_descendants(self, processes: Iterable[Process]) -> Iterable[Process]:
        """Those, what they have started, and what that has started; each once."""

    def listening(self, port: int) -> Process | None:
        """Who listens on a TCP port of this machine over IPv6, as far as can be seen."""
