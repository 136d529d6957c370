"""Serves the API with gunicorn: one worker process of many threads. Called by the daemon.

gunicorn, because it streams uploads, speaks on unix sockets, and lets a connection be taken over (WebSockets, later). Store
and view are opened in the worker, after the fork: gRPC does not survive one.
"""

import logging
import resource
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from ucloud.api.app import create_app
from ucloud.api.services import MAX_LONG, Services

log = logging.getLogger("ucloud.api.server")

THREADS = MAX_LONG + 24  # so that short requests always find one
GRACE_S = 10
CONNECTIONS = 2000


class Server(BaseApplication):  # type: ignore[misc]
    """`unix`: path of a socket that only this user may open. `tcp`: addresses as host:port, [::1]:8642."""

    def __init__(self, open_services: Callable[[], Services], unix: str | None, tcp: Sequence[str]) -> None:
        self._open, self._binds = open_services, [*([f"unix:{unix}"] if unix else []), *tcp]
        self._services: Services | None = None
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": self._binds,
            "worker_class": "ucloud.api.front.Worker",
            "workers": 1,
            "threads": THREADS,
            "worker_connections": _connections(),
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
        self._services.view.start(self._services.on_bug)
        return create_app(self._services)

    def end_waits(self) -> None:
        if self._services:
            self._services.end_waits()

    def close(self) -> None:
        if self._services:
            self._services.close()


def _connections() -> int:
    """As many as there may be file descriptors for; a process usually gets fewer than it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(CONNECTIONS, wanted // 2)


def serve(open_services: Callable[[], Services], *, unix: str | None = None, tcp: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT. Does not return: gunicorn ends the process. Refuses to serve nowhere."""
    assert unix or tcp, "nowhere to listen"
    Server(open_services, unix, tcp).run()
