"""What the API asks this host's daemon directly: the serial logs of its guests, and their consoles.

A small HTTP server on the host's underlay address. It answers only to the token that the host wrote under its own status
(`status/<host>/endpoint`), which other hosts cannot read.
"""

import hmac
import re
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, SHUT_RDWR, socket
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ucloud.base.errors import NotFound, Temporary
from ucloud.base.ids import is_id
from ucloud.driver.hypervisor.contract import LOG_BYTES, Hypervisor, Log
from ucloud.host.console import MAX_VIEWERS, Lines
from ucloud.host.viewer import Viewer

REQUEST_TIMEOUT_S = 10.0
MAX_CONNECTIONS = MAX_VIEWERS + 64  # a thread each
MAX_WAIT_S = 30.0
LOOK_S = 0.1  # between looks at a log that somebody waits for


class Server(ThreadingHTTPServer):
    address_family = AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, token: str, hypervisor: Hypervisor) -> None:
        """Listens on a free port of this IPv6 address."""
        super().__init__((address, 0), Handler)
        self.token, self.hypervisor = token, hypervisor
        self.lines, self.stopping = Lines(hypervisor), threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._strangers: dict[socket, None] = {}  # who has shown no token yet, oldest first
        self.url = f"http://[{address}]:{self.server_address[1]}"

    def shutdown(self) -> None:
        """Consoles are told, and who waits for a log is answered."""
        self.stopping.set()
        super().shutdown()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever comes when all places are taken is hung up on, and may come again: a stranger has made room then."""
        if self._places.acquire(blocking=False):
            with self._lock:
                self._strangers[request] = None
            super().process_request(request, client_address)
        else:
            self._hang_up_on_a_stranger()
            self.shutdown_request(request)

    def _hang_up_on_a_stranger(self) -> None:
        with self._lock, suppress(OSError):
            if oldest := next(iter(self._strangers), None):
                del self._strangers[oldest]
                oldest.shutdown(SHUT_RDWR)  # its thread notices

    def know(self, connection: socket) -> None:
        """It has shown the token, or is over."""
        with self._lock:
            self._strangers.pop(connection, None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.know(request)
            self._places.release()


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = REQUEST_TIMEOUT_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 (the name is http.server's)
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            self._answer(401, b"this host's token is missing or wrong\n")
            return
        self.server.know(self.connection)
        url = urlsplit(self.path)
        query = {name: value for name, value in parse_qsl(url.query) if re.fullmatch("[0-9]{1,18}", value)}
        match url.path.split("/"):
            case ["", "v1", "vm", vm, "log"] if is_id(vm):
                self._log(vm, int(query.get("after", 0)), min(MAX_WAIT_S, int(query.get("wait", 0))))
            case ["", "v1", "vm", vm, "console"] if is_id(vm):
                after = int(query["after"]) if "after" in query else None
                self._console(vm, after, query.get("read_only") == "1", query.get("take") == "1")
            case _:
                self._answer(404, b"no such thing here\n")

    def _log(self, vm: str, after: int, wait_s: float) -> None:
        """From byte `after` on. If that is its end, not before there is more, or the wait is over."""
        deadline_s = time.monotonic() + wait_s
        try:
            log = self._read(vm, after)
            while log.end == after and time.monotonic() < deadline_s and not self.server.stopping.wait(LOOK_S):
                log = self._read(vm, after)
        except Temporary as error:
            self._answer(503, f"{error.message}\n".encode())
            return
        self._answer(200, log.data, {"X-Log-Start": str(log.start), "X-Log-End": str(log.end)})

    def _read(self, vm: str, after: int) -> Log:
        try:
            return self.server.hypervisor.log(vm, after, LOG_BYTES)
        except NotFound:
            return Log(b"")

    def _console(self, vm: str, after: int | None, read_only: bool, take: bool) -> None:
        """A WebSocket, see viewer.py."""
        response = ServerProtocol().accept(Request(self.path, Headers(self.headers.items())))
        if response.status_code != 101:
            self._answer(response.status_code, bytes(response.body))
            return
        try:
            with self.server.lines.seat(vm, read_only, take) as seat:
                self.close_connection = True
                self.wfile.write(response.serialize())
                viewer = Viewer(self.connection, self.server.hypervisor, self.server.lines, seat)
                viewer.run(after, self.server.stopping)
        except Temporary as error:
            self._answer(503, f"{error.message}\n".encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged by the API that makes them."""
