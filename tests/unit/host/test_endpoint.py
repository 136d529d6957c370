"""The host's HTTP server, and people who only hold its places."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from ucloud.driver.hypervisor.fake import FakeHypervisor
from ucloud.host.endpoint import MAX_CONNECTIONS, Server


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    server = Server("::1", "token", FakeHypervisor({}))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield "::1", server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=30) as asking, contextlib.suppress(OSError):
        asking.sendall(b"GET / HTTP/1.0\r\nAuthorization: Bearer token\r\n\r\n")
        return asking.recv(100)
    return b""


def test_more_connections_than_places_are_hung_up_on(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(MAX_CONNECTIONS):
            opened.enter_context(socket.create_connection(address))
        last = opened.enter_context(socket.create_connection(address, timeout=30))
        assert last.recv(1) == b""
    while b"404" not in ask(address):  # as soon as a place is free
        pass


def test_who_shows_no_token_keeps_nobody_out(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as opened:
        strangers = [opened.enter_context(socket.create_connection(address)) for _ in range(MAX_CONNECTIONS)]
        for _ in range(200):
            for stranger in strangers:  # a little now and then, so that none seems to be silent
                with contextlib.suppress(OSError):
                    stranger.sendall(b"x")
            if b"404" in ask(address):
                return
    raise AssertionError("all places stay taken")
