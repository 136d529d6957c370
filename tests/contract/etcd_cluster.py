"""Real etcd for tests: members on free ports of [::1], in a directory of their own; they never outlive the test process."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BEAT_MS, ELECTION_MS = 50, 500


class EtcdCluster:
    """`members` are started at once; `endpoints` is where they listen. options: more of etcd's, for all members. Without
    fsync a power cut would lose data, but no test cuts the power."""

    def __init__(
        self, directory: Path, members: int, scheme: str = "http", options: Mapping[str, object] = {}, fsync: bool = False
    ) -> None:
        ports = free_ports(2 * members)
        self.endpoints = [f"{scheme}://[::1]:{port}" for port in ports[:members]]
        self._options, self._fsync = options, fsync
        self._directory = directory
        self._peers = [f"http://[::1]:{port}" for port in ports[members:]]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * members
        for index in range(members):
            self.start(index)

    def start(self, index: int) -> None:
        endpoint, peer = self.endpoints[index], self._peers[index]
        peers = ",".join(f"m{number}={url}" for number, url in enumerate(self._peers))
        options = {
            "name": f"m{index}",
            "data-dir": self._directory / f"m{index}",
            "listen-client-urls": endpoint,
            "advertise-client-urls": endpoint,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": peers,
            "heartbeat-interval": BEAT_MS,
            "election-timeout": ELECTION_MS,
            "logger": "zap",
            "log-level": "warn",
            **self._options,
        }
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", *([] if self._fsync else ["--unsafe-no-fsync"])]
        command += [f"--{name}={value}" for name, value in options.items()]
        with open(self._directory / f"m{index}.log", "ab") as log:
            self._processes[index] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self, index: int) -> None:
        process = self._processes[index]
        if process:
            process.kill()
            process.wait()
            self._processes[index] = None

    def freeze(self, index: int) -> None:
        """The member stands still: it takes connections and answers nothing."""
        process = self._processes[index]
        assert process
        os.kill(process.pid, signal.SIGSTOP)

    def thaw(self, index: int) -> None:
        process = self._processes[index]
        assert process
        os.kill(process.pid, signal.SIGCONT)

    def cpu_s(self) -> float:
        """User and system time of all members that run."""
        ticks = 0
        for process in filter(None, self._processes):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        for index in range(len(self._processes)):
            self.kill(index)


def free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket(socket.AF_INET6) for _ in range(count)]
    try:
        for open_socket in sockets:
            open_socket.bind(("::1", 0))
        return [open_socket.getsockname()[1] for open_socket in sockets]
    finally:
        for open_socket in sockets:
            open_socket.close()
