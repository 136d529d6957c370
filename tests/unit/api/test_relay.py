"""Passing bytes on between two connections, either of which may end, stand still, or not read."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ucloud.api.relay import CHUNK_BYTES, relay

DEADLINE_S = 60.0


class Ends:
    """Client and server as they see it, and the relay between them."""

    def __init__(self, first: bytes = b"", silence_s: float = DEADLINE_S) -> None:
        self.client, near = socket.socketpair()
        self.server, far = socket.socketpair()
        self.stopping = threading.Event()
        for one in (self.client, self.server):
            one.settimeout(DEADLINE_S)
        self._inner = (near, far)
        self._thread = threading.Thread(target=self._run, args=(near, far, first, silence_s))
        self._thread.start()

    def _run(self, near: socket.socket, far: socket.socket, first: bytes, silence_s: float) -> None:
        with suppress(OSError):  # as its caller does
            relay(near, far, first, silence_s, self.stopping.is_set)
        for one in (near, far):
            one.close()

    def ended(self) -> bool:
        self._thread.join(DEADLINE_S)
        return not self._thread.is_alive()

    def close(self) -> None:
        self.stopping.set()
        self.client.close()
        self.server.close()
        assert self.ended()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends(first=b"first ")
    yield ends
    ends.close()


def receive(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = one.recv(65536)
        assert chunk, data
        data += chunk
    return data


def test_both_ways(ends: Ends) -> None:
    ends.server.sendall(b"second")
    assert receive(ends.client, 12) == b"first second"
    ends.client.sendall(b"hello")
    assert receive(ends.server, 5) == b"hello"


def test_who_ends_is_heard_out(ends: Ends) -> None:
    farewell = b"x" * (CHUNK_BYTES // 2)
    ends.server.sendall(farewell)
    ends.server.close()
    assert receive(ends.client, len(farewell) + 6) == b"first " + farewell
    assert ends.client.recv(1) == b""
    assert ends.ended()


def test_a_client_that_leaves_ends_it(ends: Ends) -> None:
    ends.client.close()
    assert ends.ended()
    assert ends.server.recv(1) == b""


def test_who_does_not_read_holds_up_the_other_and_no_memory(ends: Ends) -> None:
    ends.server.setblocking(False)
    sent = 0
    while select.select([], [ends.server], [], 0.5)[1]:  # until nothing is taken any more
        sent += ends.server.send(b"x" * CHUNK_BYTES)
    assert sent < 4 << 20
    ends.client.sendall(b"I can still type")
    ends.server.setblocking(True)
    assert receive(ends.server, 16) == b"I can still type"
    assert len(receive(ends.client, sent + 6)) == sent + 6


def test_a_server_that_falls_silent_is_left() -> None:
    ends = Ends(silence_s=0.5)
    ends.client.sendall(b"are you there?")
    assert ends.client.recv(1) == b""
    ends.close()


def test_it_stops_when_it_is_told_to(ends: Ends) -> None:
    ends.stopping.set()
    assert ends.ended()
