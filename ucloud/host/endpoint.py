"""What the API asks this host's daemon directly: the serial logs of its guests (later consoles).

A small HTTP server on the host's underlay address. It answers only to the token that the host wrote under its own status
(`status/<host>/endpoint`), which other hosts cannot read.
"""

import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any

from ucloud.base.errors import NotFound, Temporary
from ucloud.base.ids import is_id
from ucloud.driver.hypervisor.contract import Hypervisor, Log

REQUEST_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 32  # a thread each


class Server(ThreadingHTTPServer):
    address_family = AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, token: str, hypervisor: Hypervisor) -> None:
        """Listens on a free port of this IPv6 address."""
        super().__init__((address, 0), Handler)
        self.token, self.hypervisor = token, hypervisor
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.url = f"http://[{address}]:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever comes when all places are taken is hung up on, and may come again."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
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
        match self.path.split("/"):
            case ["", "v1", "vm", vm, "log"] if is_id(vm):
                self._log(vm)
            case _:
                self._answer(404, b"no such thing here\n")

    def _log(self, vm: str) -> None:
        try:
            log = self.server.hypervisor.log(vm)
        except NotFound:
            log = Log(b"")
        except Temporary as error:
            self._answer(503, f"{error.message}\n".encode())
            return
        self._answer(200, log.data, {"X-Log-Truncated": "true" if log.start else "false"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged by the API that makes them."""
