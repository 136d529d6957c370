"""Addresses at which no ucloud API answers: the message says of each why, and what to do."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from ucloud.cli.main import main
from ucloud.client.reason import reason_of
from ucloud.client.transport import Transport, Unreachable


def said_of(address: str) -> str:
    """Why it cannot be used, as `ucloud vm list` says."""
    result = CliRunner().invoke(main, ["--api", address, "vm", "list"], prog_name="ucloud")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    first, tried, *advice = result.stderr.splitlines()
    assert first == "Error: the API does not answer"
    assert "`ucloud status`" in advice[0]
    assert "--api or UCLOUD_API" in advice[1]
    beginning = f"  tried {address}: "
    assert tried.startswith(beginning)
    return tried.removeprefix(beginning)


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """host:port of one who says this, and no more."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed
                    return
                with connection, suppress(OSError):  # the other side may be gone
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"[::1]:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Not a word."""


def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        port = free.getsockname()[1]
    assert said_of(f"http://[::1]:{port}") == "nothing listens there"
    assert said_of(f"unix:{tmp_path}/api.sock") == "there is no such socket"
    (tmp_path / "file").touch()
    assert said_of(f"unix:{tmp_path}/file") == "nothing listens there"
    assert said_of("unix:/" + "x" * 200) == "AF_UNIX path too long"
    assert said_of("http://ucloud.invalid:1") == "there is no machine of this name"


def test_somebody_else_is_there() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        assert said_of(f"http://127.0.0.1:{server.server_port}") == "what answers there is no ucloud API: 404 File not found"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_somebody_is_there_who_speaks_otherwise(answer: bytes) -> None:
    """It may be a server that starts again just now, so it is given more time than nobody."""
    with listening(answer) as place, pytest.raises(Unreachable) as raised:
        Transport([f"http://{place}"], patience_s=0).request("GET", "/v1/vms")
    assert raised.value.details == {f"http://{place}": "it broke the connection off, or does not speak HTTP"}


def test_tls_to_a_plain_port() -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as place:
        assert said_of(f"https://{place}") == f"it does not speak TLS; is it http://{place}?"


def test_other_reasons_are_told_as_they_come() -> None:
    assert reason_of(httpx.ReadTimeout("timed out"), "http://a") == "it does not answer in time"
    assert reason_of(httpx.ReadError(""), "http://a") == "ReadError"
    denied = httpx.ConnectError("[Errno 13] Permission denied")
    denied.__cause__ = PermissionError(13, "Permission denied")
    assert reason_of(denied, "unix:/a") == "this user may not use it; try sudo"


def test_who_waits_hears_of_it() -> None:
    """The server answers only when the client has said that it waits."""
    told: list[str] = []
    heard = threading.Event()

    def uneasy(why: str) -> None:
        told.append(why)
        heard.set()

    def handle(request: httpx.Request) -> httpx.Response:
        heard.wait(120)
        return httpx.Response(200, json={}, headers={"X-Request-Id": "r", "X-Ucloud-Version": "9.1.0"})

    versions: list[str] = []
    transport = Transport(
        ["http://a"],
        connect=lambda _: httpx.Client(transport=httpx.MockTransport(handle), base_url="http://a"),
        on_silence=uneasy,
        on_version=versions.append,
    )
    transport.request("GET", "/x")
    transport.request("GET", "/x")
    assert told == ["no answer for 2 s"]
    assert versions == ["9.1.0"]
