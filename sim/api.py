"""A simulated API process: the production application, asked without a socket. Its requests meet in the middle of each other's
calls, as those of threads do, and it may die in any of them."""

import functools
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

import httpx
from flask import Flask

from sim.drivers import ImagePool
from sim.nodes import Node
from sim.process import Process, found_bug
from sim.store import Connection
from sim.world import Killed
from ucloud.api.app import create_app
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.config import Network
from ucloud.driver.pool.contract import Pool

ENVIRON = {"SERVER_NAME": "api", "SERVER_PORT": "80", "wsgi.url_scheme": "http", "SERVER_PROTOCOL": "HTTP/1.1"}
NETWORK = Network(public=("fd00:0:1::/48",))
NO_HOSTS = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(503)))


class Answer(NamedTuple):
    status: int
    body: Mapping[str, Any]


class ApiNode(Node):
    """`answer` is None where none comes: the process is down, dies of it, or stands still."""

    def build(self) -> Process:
        process = Process(self.world, f"{self.name}.{self.incarnation}", self.kill)
        store = Connection(process, self.etcd, self.link, self.invariants, "api", self.off.api_keeps, self.off.api_sees)
        view = SharedView(store, self.clock)
        pool = cast(Pool, ImagePool(process, self.images))
        self._app = application(self.name)
        self._app.extensions["ucloud"] = Services(
            store=store, view=view, pools=lambda _: pool, clock=self.clock, hosts=NO_HOSTS, network=NETWORK
        )
        self._thread = process.run(view)
        store.thread = self._thread
        return process

    def busy_s(self) -> float:
        """For how long a request that comes now must wait: for the view, which is being written, or for SIGCONT."""
        if self.process is None:
            return 0.0
        return max(0.1 if self._thread.stepping else 0.0, self.process.stands_s())

    def answer(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> Answer | None:
        process = self.process
        if process is None:
            return None
        self._app.extensions["bug"] = functools.partial(found_bug, process, f"{method} {path}")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        try:
            process.call("a request")
            answer = self._serve(method, path, data, headers)
            process.call("its answer")
        except Killed:
            return None
        return answer

    def _serve(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """By hand, as a client of werkzeug's takes as long as the whole request."""
        said: list[str] = []
        before, _, query = path.partition("?")
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": before, "QUERY_STRING": query, **ENVIRON}
        environ |= {"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": "application/json"}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}

        def start(status: str, *_: Any) -> Callable[[bytes], object]:
            said.append(status)
            return lambda _: None

        chunks = self._app.wsgi_app(environ, start)
        return Answer(int(said[0][:3]), json.loads(b"".join(chunks)))


@functools.cache
def application(name: str) -> Flask:
    """One for each API process, for all histories: it is the services behind it that are made anew."""
    app = create_app(Services(store=None, view=None, pools=None))  # type: ignore[arg-type]

    def bug(error: Exception) -> NoReturn:
        raise app.extensions["bug"](error)

    app.register_error_handler(Exception, bug)
    return app
