"""Serves the API with gunicorn: one worker process of many threads. Called by the daemon.

gunicorn, because it streams uploads, speaks on unix sockets, and lets a connection be taken over (WebSockets, later). Store
and view are opened in the worker, after the fork: gRPC does not survive one.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from ucloud.api.app import create_app
from ucloud.api.services import Services

log = logging.getLogger("ucloud.api.server")

THREADS = 64
GRACE_S = 10
HEAD_S = 10.0  # to send the head of a request
BODY_S = 60.0  # to send its JSON and take the answer; uploads and waits have limits of their own


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no type annotations
    """A stopping worker ends the waits of its clients at once; they ask again elsewhere. A client that sends its request as
    slowly as it can is hung up on, as it holds a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines_s: dict[Any, float] = {}  # by connection

    def handle(self, conn: Any) -> Any:
        self._deadlines_s[conn] = time.monotonic() + HEAD_S
        try:
            return super().handle(conn)
        finally:
            self._deadlines_s.pop(conn, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        self._deadlines_s.pop(conn, None)
        if req.method in ("POST", "PATCH"):
            self._deadlines_s[conn] = time.monotonic() + BODY_S
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Called by gunicorn about every second, in the main thread, which alone closes sockets."""
        super().murder_pending()
        now_s = time.monotonic()
        for conn, deadline_s in list(self._deadlines_s.items()):
            if deadline_s < now_s:
                with contextlib.suppress(OSError):  # it is gone already
                    conn.sock.shutdown(socket.SHUT_RDWR)  # whoever reads from it sees its end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # Not from within the signal handler: the main thread may hold a lock at this moment.
        self.method_queue.defer(self.app.end_waits)


class Server(BaseApplication):  # type: ignore[misc]
    """`unix`: path of a socket that only this user may open. `tcp`: addresses as host:port, [::1]:8642."""

    def __init__(self, open_services: Callable[[], Services], unix: str | None, tcp: Sequence[str]) -> None:
        self._open, self._binds = open_services, [*([f"unix:{unix}"] if unix else []), *tcp]
        self._services: Services | None = None
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": self._binds,
            "worker_class": f"{__name__}.Worker",
            "workers": 1,
            "threads": THREADS,
            "worker_connections": 1000,
            "timeout": 30,  # of the worker's main loop, not of a request
            "graceful_timeout": GRACE_S,
            "keepalive": 30,
            "umask": 0o177,
            "loglevel": "warning",
            "proc_name": "ucloud-api",
            "default_proc_name": "ucloud-api",
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "worker_exit": lambda server, worker: self.close(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)
        if "control_socket_disable" in self.cfg.settings:  # gunicorn 25 and later
            self.cfg.set("control_socket_disable", True)

    def load(self) -> Flask:
        """In the worker, after the fork."""
        self._services = self._open()
        self._services.view.start(on_bug=_die)
        return create_app(self._services)

    def end_waits(self) -> None:
        if self._services:
            self._services.view.end_waits()

    def close(self) -> None:
        if self._services:
            self._services.close()


def _die() -> None:
    """A bug in the view's loop: this worker ends, and gunicorn forks a fresh one."""
    os._exit(1)


def serve(open_services: Callable[[], Services], *, unix: str | None = None, tcp: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT. Does not return: gunicorn ends the process. Refuses to serve nowhere."""
    assert unix or tcp, "nowhere to listen"
    Server(open_services, unix, tcp).run()
