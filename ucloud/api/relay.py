"""Hands a client's connection over to another server: after the answer 101, bytes are passed on both ways as they are. Used by
`ucloud.api.console`. Holds one thread."""

import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any

from flask import Response

CHUNK_BYTES = 65536
LOOK_S = 1.0  # whether the server stops
FAREWELL_S = 2.0


class Upgraded(Response):
    """server: a socket; `first` has come from it already. silence_s: the server speaks at least so often, or is taken for dead.
    held: what is to be let go of in the end."""

    def __init__(
        self, headers: Any, server: socket.socket, first: bytes, silence_s: float, held: ExitStack, stops: Callable[[], bool]
    ) -> None:
        super().__init__(status=101, headers=headers)
        self._server, self._first, self._silence_s, self._held, self._stops = server, first, silence_s, held, stops

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        client = environ["gunicorn.socket"]
        with self._held, suppress(OSError):  # one of them is gone
            client.sendall(self._head())
            relay(client, self._server, self._first, self._silence_s, self._stops)
            client.shutdown(socket.SHUT_RDWR)
        raise StopIteration("the connection is used up")  # gunicorn then closes it, without an answer of its own

    def _head(self) -> bytes:
        lines = [f"{name}: {value}" for name, value in self.headers if not name.startswith("Content-")]
        return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode("latin-1")


def relay(client: socket.socket, server: socket.socket, first: bytes, silence_s: float, stops: Callable[[], bool]) -> None:
    """Until one of them ends, the server is silent for too long, or `stops`. At most one chunk waits in each direction, so
    that who does not read holds up only the other one. Raises OSError when the client is gone."""
    waiting = {client: first, server: b""}  # what each is to get
    other = {client: server, server: client}
    by_number = {client.fileno(): client, server.fileno(): server}
    heard_s = time.monotonic()
    while not stops() and time.monotonic() - heard_s < silence_s:
        poll = select.poll()
        for one in (client, server):
            wanted = (select.POLLOUT if waiting[one] else 0) | (select.POLLIN if not waiting[other[one]] else 0)
            poll.register(one, wanted)
        for number, event in poll.poll(LOOK_S * 1000):
            one = by_number[number]
            if event & select.POLLOUT:
                waiting[one] = waiting[one][one.send(waiting[one], socket.MSG_DONTWAIT) :]
            if event & select.POLLIN:
                waiting[other[one]] = one.recv(CHUNK_BYTES)
                heard_s = time.monotonic() if one is server else heard_s
                if not waiting[other[one]]:
                    return
            if not event & (select.POLLIN | select.POLLOUT):  # it has hung up, while the other one is still to take something
                if one is client:
                    return
                client.settimeout(FAREWELL_S)
                client.sendall(waiting[client])
                waiting[client] = b""
