"""Forwarding from TCP to a unix socket: both ways, to the end, and nothing hangs when one side is gone."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucloud.daemon import forward

PATIENCE_S = 60.0
MUCH = b"x" * 3_000_000  # more than any buffer on the way holds


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        yield listener


def connect(target: Path) -> tuple[socket.socket, threading.Thread]:
    client, inner = socket.socketpair()
    client.settimeout(PATIENCE_S)
    places = threading.BoundedSemaphore(1)
    places.acquire()
    thread = threading.Thread(target=forward.join, args=(inner, target, places), daemon=True)
    thread.start()
    return client, thread


def read_all(source: socket.socket) -> bytes:
    return b"".join(iter(lambda: source.recv(65536), b""))


def test_a_side_that_has_finished_still_hears_the_answer(tmp_path: Path, server: socket.socket) -> None:
    client, thread = connect(tmp_path / "api.sock")
    accepted, _ = server.accept()
    with client, accepted:
        sender = threading.Thread(target=lambda: (client.sendall(MUCH), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(accepted) == MUCH
        accepted.sendall(b"answer")
        accepted.close()
        assert read_all(client) == b"answer"
        sender.join(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_client_that_vanishes_takes_its_connection_along(tmp_path: Path, server: socket.socket) -> None:
    client, thread = connect(tmp_path / "api.sock")
    accepted, _ = server.accept()
    with accepted:
        accepted.settimeout(PATIENCE_S)
        client.close()
        assert read_all(accepted) == b""
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_without_a_server_the_connection_ends(tmp_path: Path) -> None:
    client, thread = connect(tmp_path / "nothing.sock")
    with client:
        assert read_all(client) == b""
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
