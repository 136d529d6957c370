"""Forwarding to an API process: both ways, to the end; nothing hangs when one side is gone, and nothing goes to one that is
frozen or has lost the store while another is well."""

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucloud.daemon import forward
from ucloud.daemon.forward import Servers

PATIENCE_S = 60.0
MUCH = b"x" * 3_000_000  # more than any buffer on the way holds


class Api:
    """What it answers: ready or not; or nothing, while it is frozen. Anything but a look at its health is handed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frozen, self.ready = False, True
        self.accepted: queue.Queue[socket.socket] = queue.Queue()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._silent: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in (*self._silent, *self.accepted.queue):
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            if self.frozen:
                self._silent.append(connection)
            elif not connection.recv(5, socket.MSG_PEEK).startswith(b"GET /"):
                self.accepted.put(connection)
            else:
                with connection:
                    is_well = self.ready or b"healthz" in connection.recv(4096)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" if is_well else b"HTTP/1.0 503 No\r\n\r\n")


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[list[Api]]:
    made = [Api(tmp_path / f"{number}.sock") for number in (1, 2)]
    yield made
    for api in made:
        api.close()


def connect(servers: Servers) -> tuple[socket.socket, threading.Thread]:
    """As a client that has begun to ask."""
    client, inner = socket.socketpair()
    client.settimeout(PATIENCE_S)
    client.sendall(b"hello")
    places = threading.BoundedSemaphore(1)
    places.acquire()
    thread = threading.Thread(target=forward.join, args=(inner, servers, places), daemon=True)
    thread.start()
    return client, thread


def arrived(api: Api) -> socket.socket:
    connection = api.accepted.get(timeout=PATIENCE_S)
    assert connection.recv(5) == b"hello"
    return connection


def read_all(source: socket.socket) -> bytes:
    return b"".join(iter(lambda: source.recv(65536), b""))


def test_a_side_that_has_finished_still_hears_the_answer(apis: list[Api]) -> None:
    client, thread = connect(Servers([apis[0].path]))
    accepted = arrived(apis[0])
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


def test_a_client_that_vanishes_takes_its_connection_along(apis: list[Api]) -> None:
    client, thread = connect(Servers([apis[0].path]))
    with arrived(apis[0]) as accepted:
        client.close()
        assert read_all(accepted) == b""
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_connection_that_the_server_ends_is_over(apis: list[Api]) -> None:
    """A client that holds on to it (a pool of connections does) is no reason to go on looking at the servers."""
    servers = Servers([apis[0].path])
    client, thread = connect(servers)
    apis[0].accepted.get(timeout=PATIENCE_S).close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert [server.load for server in servers._servers] == [0]
    client.close()


def test_without_a_server_the_connection_ends(tmp_path: Path) -> None:
    client, thread = connect(Servers([tmp_path / "nothing.sock"]))
    with client, contextlib.suppress(ConnectionResetError):
        assert read_all(client) == b""
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("fault", [{"frozen": True}, {"ready": False}])
def test_a_new_connection_goes_to_one_that_is_well(apis: list[Api], fault: dict[str, bool]) -> None:
    for name, value in fault.items():
        setattr(apis[0], name, value)
    client, _ = connect(Servers([api.path for api in apis]))
    with client:
        arrived(apis[1]).close()


def test_while_none_is_ready_one_that_lives_answers(apis: list[Api]) -> None:
    apis[0].frozen, apis[1].ready = True, False
    client, _ = connect(Servers([api.path for api in apis]))
    with client:
        arrived(apis[1]).close()


def test_the_connections_of_one_that_freezes_are_cut_if_another_is_well(
    apis: list[Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "LOOK_S", 0.0)
    servers = Servers([api.path for api in apis])
    client, thread = connect(servers)
    with client, arrived(apis[0]):
        apis[0].ready = apis[1].ready = False
        for _ in range(forward.BAD_LOOKS):
            servers.look()
        assert thread.is_alive()
        apis[0].frozen = apis[1].ready = True
        servers.look()
        assert read_all(client) == b""
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
