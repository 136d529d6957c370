"""Passes connections on to an API process that answers, byte by byte, both ways. Used by the supervisor of `ucloud up`, so that
the machine's [::1]:8642 and one well-known socket are the API, while each API process has a unix socket of its own.

A process that is frozen, or whose host lost its network, takes connections all the same. So each is asked /readyz before a
connection goes to it, and every second while anybody is connected. When it twice did not answer well and another does better,
its connections are cut: clients ask again.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger("ucloud.forward")

MAX_CONNECTIONS = 256  # two threads each
CHUNK_BYTES = 65536
SILENT, ALIVE, READY = 0, 1, 2  # nothing is heard of it; it answers; it answers and has the store
PROBE_S = 1.0  # how long it may take to answer
LOOK_S = 1.0
BAD_LOOKS = 2


class Server:
    """One API process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad_looks = 0
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self.last_grade, self._probed_s = SILENT, float("-inf")
        self._connections: dict[socket.socket, socket.socket] = {}  # with the client of each

    def grade(self) -> int:
        """As it was at most `LOOK_S` ago."""
        with self._probing:
            if time.monotonic() - self._probed_s >= LOOK_S:
                self.last_grade = probe(self.path)
                self._probed_s = time.monotonic()
            return self.last_grade

    @property
    def load(self) -> int:
        with self._lock:
            return len(self._connections)

    def connect(self, client: socket.socket) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PROBE_S)  # else a full backlog holds us up
        try:
            connection.connect(str(self.path))
        except OSError as error:
            log.debug("%s: %s", self.path, error)
            connection.close()
            return None
        connection.settimeout(None)
        with self._lock:
            self._connections[connection] = client
        return connection

    def disconnect(self, connection: socket.socket) -> None:
        with self._lock:
            del self._connections[connection]
            connection.close()

    def cut(self) -> None:
        """End all its connections."""
        with self._lock:
            for pair in self._connections.items():
                for one in pair:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)


class Servers:
    """All API processes."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._servers: list[Server] = []
        self.add(paths)

    def add(self, paths: Sequence[Path]) -> None:
        """Those that are not known yet."""
        known = {server.path for server in self._servers}
        self._servers += [Server(path) for path in paths if path not in known]

    def connect(self, client: socket.socket) -> tuple[Server, socket.socket] | None:
        """To one that is ready, of several to that with the fewest connections; else to the best. None where nobody listens."""
        servers = sorted(self._servers, key=lambda server: (-server.last_grade, server.load))
        ready = next((server for server in servers if server.grade() == READY), None)
        for server in ([ready] if ready else []) + sorted(servers, key=lambda server: -server.last_grade):
            if connection := server.connect(client):
                return server, connection
        return None

    def watch(self) -> None:
        """Run for ever."""
        while True:
            self.look()
            time.sleep(LOOK_S)

    def look(self) -> None:
        """Once at each, if there are connections."""
        if not any(server.load for server in self._servers):
            return
        for server in self._servers:
            server.bad_looks = 0 if server.grade() == READY else server.bad_looks + 1
        best = max(server.last_grade for server in self._servers)
        for server in self._servers:
            if server.load and server.bad_looks >= BAD_LOOKS and server.last_grade < best:
                log.warning("%s does not answer well, others do: its %d connections are cut", server.path, server.load)
                server.cut()


def probe(path: Path) -> int:
    if status(path, "/readyz") == b"200":
        return READY
    return ALIVE if status(path, "/healthz") == b"200" else SILENT


def status(path: Path, url: str) -> bytes:
    """Of the answer over HTTP; empty without one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_S)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % url.encode())
            words = connection.recv(CHUNK_BYTES).split(maxsplit=2)
        except OSError:
            return b""
    return words[1] if len(words) > 1 else b""


def serve(listeners: Sequence[socket.socket], servers: Servers) -> None:
    """In threads of their own, for ever."""
    places = threading.BoundedSemaphore(MAX_CONNECTIONS)
    threading.Thread(target=servers.watch, name="forward watch", daemon=True).start()
    for listener in listeners:
        threading.Thread(target=accept, args=(listener, servers, places), name="forward", daemon=True).start()


def accept(listener: socket.socket, servers: Servers, places: threading.BoundedSemaphore) -> None:
    while True:
        places.acquire()
        try:
            client, _ = listener.accept()
        except OSError as error:  # a client that gave up at once, or too many open files
            log.warning("accept: %s", error)
            places.release()
            continue
        threading.Thread(target=join, args=(client, servers, places), daemon=True).start()


def join(client: socket.socket, servers: Servers, places: threading.BoundedSemaphore) -> None:
    with client:
        if found := servers.connect(client):  # else the client sees its connection end
            server, connection = found
            back = threading.Thread(target=copy_answers, args=(connection, client), daemon=True)
            back.start()
            copy(client, connection)
            back.join()
            server.disconnect(connection)
    places.release()


def copy_answers(server: socket.socket, client: socket.socket) -> None:
    """Until the server ends the connection: there will be no answers any more, so that the client need not keep it either."""
    copy(server, client)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the source has no more; says so to the sink, which may go on to answer."""
    try:
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for broken in (source, sink):  # wakes the other direction, too
            try:
                broken.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
