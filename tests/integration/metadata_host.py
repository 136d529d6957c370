"""A host that tells its guests who they are, for tests and benchmarks: a network namespace with the metadata daemon, and with
bridges that have the guests' addresses, so that one can ask from each."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from shutil import rmtree

from tests.namespaces import Namespace, ip
from ucloud.driver.metadata.files import DIRECTORY, MetadataFiles
from ucloud.driver.overlay.names import bridge
from ucloud.model.wiring import Metadata

GATEWAY6, GATEWAY4, LINK_LOCAL = "fd00:1::1", "10.1.0.1", "fe80::a9fe:a9fe"
WEB = "fd00:1::2"  # who asks if nothing else is said
PATIENCE_S = 60.0


class Host:
    """With a daemon that tells `things`, and bridges that have the addresses of these guests, and of `strangers`."""

    def __init__(self, things: Sequence[Metadata], strangers: Sequence[str] = ()) -> None:
        self.namespace, self.run_dir = Namespace(), Path(tempfile.mkdtemp(prefix="uct-"))
        self.files = MetadataFiles(self.run_dir / DIRECTORY)
        self._config = self.run_dir / "ucloud.toml"
        self._config.write_text(f'[host]\nrun_dir = "{self.run_dir}"\n')
        self.files.add(things)
        with self.namespace:
            for vni in {thing.vni for thing in things}:
                name = bridge(vni)
                sources = {source for thing in things if thing.vni == vni for source in thing.sources}
                addresses = (f"fd00:{vni}::1", f"10.{vni}.0.1", LINK_LOCAL, *sources, *(strangers if vni == 1 else ()))
                ip(f"link add {name} type bridge", f"link set {name} up", *(added(address, name) for address in addresses))
        self.daemon: subprocess.Popen[bytes]

    def start(self) -> None:
        with self.namespace:
            self.daemon = self.run()
        wait_for(self.listens, "the daemon listens")
        assert self.ask("/")[0]

    def run(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ucloud.daemon.main", "daemon", "metadata", "--config", str(self._config)]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    def listens(self) -> bool:
        assert self.daemon.poll() is None
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def unacknowledged_bytes(self) -> int:
        """Of all answers, whether or not a process still has their sockets."""
        with self.namespace:
            rows = [line.split() for line in Path("/proc/thread-self/net/tcp6").read_text().splitlines()[1:]]
        return sum(int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(":0050"))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.daemon.send_signal(number)
        self.daemon.communicate(timeout=PATIENCE_S)

    def close(self) -> None:
        if self.daemon.poll() is None:
            self.stop(signal.SIGKILL)
        rmtree(self.run_dir)
        self.namespace.close()

    def connect(self, source: str = WEB) -> socket.socket:
        """source: fe80::2%BRIDGE, or any other address."""
        with self.namespace:
            if "%" not in source:
                return socket.create_connection((GATEWAY6 if ":" in source else GATEWAY4, 80), PATIENCE_S, (source, 0))
            address, _, name = source.partition("%")
            sock = socket.socket(socket.AF_INET6)
            sock.settimeout(PATIENCE_S)
            sock.bind((address, 0, 0, socket.if_nametoindex(name)))
            sock.connect((LINK_LOCAL, 80, 0, socket.if_nametoindex(name)))
            return sock

    def say(self, text: bytes, source: str = WEB) -> bytes:
        """Answers all that came back; nothing for a reset."""
        try:
            with closing(self.connect(source)) as sock:
                return heard(sock, text)
        except ConnectionResetError:
            return b""

    def ask(self, path: str, source: str = WEB, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        request = f"{method} {path} HTTP/1.1\r\nHost: metadata\r\n{more}\r\n"
        head, _, body = self.say(request.encode(), source).partition(b"\r\n\r\n")
        return status(head), body


def added(address: str, name: str) -> str:
    return f"address add {address}/64 dev {name} nodad" if ":" in address else f"address add {address}/16 dev {name}"


def heard(sock: socket.socket, text: bytes = b"") -> bytes:
    received = b""
    try:
        sock.sendall(text)
        while part := sock.recv(65536):
            received += part
    except (ConnectionResetError, BrokenPipeError):
        pass
    return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def wait_for(happens: Callable[[], object], what: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < until_s, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)
