"""Announces this host's public VMs by bird, in the network namespace of the process that starts it.

bird is a child that outlives the host daemon. It is recognised by what the kernel says of a process (working directory and
command), never by a file that could be stale, and held by pidfd.
"""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ucloud.base.errors import Temporary
from ucloud.driver.announcer import bird_config
from ucloud.driver.process.held import Held, held
from ucloud.driver.process.linux import PROC, command_of, working_directory

COMMAND = ("bird", "-f", "-c", "bird.conf", "-s", "bird.ctl")
CAPABILITIES = "-all,+net_admin,+net_bind_service,+net_broadcast,+net_raw"  # of root's that it keeps
END_S = 5.0  # to say goodbye to its routers; then it is killed
PROGRAM_S = 10.0


class BirdAnnouncer:
    def __init__(
        self, run_dir: Path, address: str, routers: Sequence[str], host_as: int, router_as: int, prefixes: Sequence[str]
    ) -> None:
        """address: this host's on the underlay, on whose link the routers are. prefixes: of public networks."""
        self._directory = run_dir / "bird"
        self._file = self._directory / "bird.conf"
        self._text = bird_config.host(address=address, routers=routers, host_as=host_as, router_as=router_as, prefixes=prefixes)
        self._has_routers = bool(routers)
        self._process: Held | None = None

    def keep(self) -> bool:
        if not self._has_routers:
            if self._directory.exists():  # there were some
                self.end()
            return False
        was_known = self._file.exists()
        is_new = self._write()
        process = self._running()
        if process is None:
            self._process = start(self._directory)
        elif is_new:
            process.send(signal.SIGHUP)  # it reads its file again
        return was_known and process is None

    def end(self) -> None:
        if process := self._running():
            process.send(signal.SIGTERM)
            if not process.has_ended(END_S):
                process.kill("bird")
        self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _running(self) -> Held | None:
        if self._process is None or self._process.has_ended():
            self._process = find(self._directory)
        return self._process

    def _write(self) -> bool:
        """Answers whether it was another text."""
        if self._file.exists() and self._file.read_text() == self._text:
            return False
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._file.with_suffix(".new")
            new.write_text(self._text)
            check(new)
            new.rename(self._file)
        except OSError as error:
            raise Temporary(f"{self._file}: {error.strerror}") from error
        return True


def start(directory: Path) -> Held:
    command = ["setpriv", "--bounding-set", CAPABILITIES, "--no-new-privs", *COMMAND]
    try:
        child = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise Temporary(f"bird cannot be started: {error.strerror}") from error
    return Held(child.pid, child)


def find(directory: Path) -> Held | None:
    """The one that works in this directory, whoever started it."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and is_ours(int(entry.name), directory))
    return next(filter(None, (held(pid, lambda pid: is_ours(pid, directory)) for pid in pids)), None)


def is_ours(pid: int, directory: Path) -> bool:
    """Also while setpriv is about to become bird."""
    return working_directory(pid) == directory.resolve() and command_of(PROC / str(pid))[-len(COMMAND) :] == COMMAND


def check(file: Path) -> None:
    try:
        done = subprocess.run(
            ["bird", "-p", "-c", file], cwd=file.parent, capture_output=True, text=True, timeout=PROGRAM_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Temporary(f"bird cannot be started: {error}") from error
    if done.returncode:
        raise Temporary(f"bird refuses its settings: {done.stderr.strip()}")
