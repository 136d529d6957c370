"""The API behind its real server: a process of its own, on a unix socket and on TCP."""

import contextlib
import http.client
import json
import os
import resource
import select
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
from gunicorn.config import Config

from tests.unit.api.cloud import DATA, SHA256, Cloud
from ucloud import __version__
from ucloud.api.body import MAX_BODY_BYTES
from ucloud.api.front import Connection
from ucloud.api.server import CONNECTIONS, THREADS
from ucloud.api.services import MAX_WAITS, Places

PROGRAM = """
import sys
from tests.unit.api.cloud import FakePool
from ucloud.api.server import serve
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.clock import SystemClock
from ucloud.model.image import Pool
from ucloud.model.record import encode
from ucloud.store.memory import MemoryStore

def open_services():
    clock = SystemClock()
    store = MemoryStore(clock)
    store.commit({"pool/default": encode(Pool(name="default", path="/pool", created=""))})
    pool = FakePool()
    return Services(store=store, view=SharedView(store, clock), pools=lambda record: pool, clock=clock)

serve(open_services, unix=sys.argv[1], tcp=[sys.argv[2]])
"""
ROOT = Path(__file__).parents[3]


class Served:
    def __init__(self, path: Path) -> None:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            self.tcp = f"[::1]:{probe.getsockname()[1]}"
        self.path = path
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), self.tcp], env=environment)
        transport = httpx.HTTPTransport(uds=str(path), verify=False)
        self.http = httpx.Client(transport=transport, base_url="http://localhost", timeout=60)

    def await_ready(self) -> None:
        while self.process.poll() is None:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                threading.Event().wait(0.05)
        raise AssertionError("the server ended")

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "api.sock")
    try:
        served.await_ready()
        yield served
    finally:
        served.close()


def test_serves_on_both_streams_uploads_and_ends_waits_when_it_stops(served: Served) -> None:
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
    assert httpx.get(f"http://{served.tcp}/v1/vms", trust_env=False).json() == {"vms": [], "next_cursor": None}
    made = served.http.post("/v1/images", json={"name": "tiny", "bytes": len(DATA), "sha256": SHA256}).json()
    chunks = iter([DATA[:3], DATA[3:]])
    upload = served.http.put(f"/v1/images/{made['image']['id']}/data", content=chunks)  # chunked: no Content-Length
    assert upload.status_code == 202
    assert served.http.put("/v1/images/tiny/data", content=DATA).status_code == 409

    answers: list[httpx.Response] = []
    url = f"/v1/actions/{upload.json()['action']['id']}?wait=60"
    waiting = threading.Thread(target=lambda: answers.append(served.http.get(url)))
    waiting.start()
    while "ucloud_api_waits 1.0" not in served.http.get("/metrics").text:
        assert waiting.is_alive()
    served.process.terminate()
    waiting.join(timeout=50)
    assert served.process.wait(timeout=50) == 0
    assert answers[0].json()["action"]["state"] == "running"
    assert not served.path.exists()


def test_an_upload_cut_off_in_the_middle_leaves_the_image_waiting(served: Served) -> None:
    made = served.http.post("/v1/images", json={"name": "tiny", "bytes": len(DATA), "sha256": SHA256}).json()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(served.path))
        head = f"PUT /v1/images/{made['image']['id']}/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(DATA)}\r\n\r\n"
        raw.sendall(head.encode() + DATA[:3])
        raw.shutdown(socket.SHUT_WR)
        assert b" 4" in raw.recv(100)
    assert served.http.get("/v1/images/tiny").json()["image"]["phase"] == "uploading"
    assert served.http.put("/v1/images/tiny/data", content=DATA).status_code == 202


def test_what_holds_a_thread_for_long_leaves_some(cloud: Cloud) -> None:
    places = [value for value in vars(cloud.services).values() if isinstance(value, Places)]
    assert sum(place.number for place in places) + 20 < THREADS


@contextlib.contextmanager
def clients(served: Served, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(number)]
        for client in opened:
            client.settimeout(50)
            client.connect(str(served.path))
        yield opened


def answer(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    with client.makefile("rb") as reader:
        return read_answer(reader)


def read_answer(reader: BinaryIO) -> tuple[int, dict[str, str], Any]:
    """The next one: status, headers, JSON."""
    status = int(reader.readline().split()[1])
    headers = {name.lower(): value for name, value in http.client.parse_headers(reader).items()}
    return status, headers, json.loads(reader.read(int(headers["content-length"])))


JSON = "Host: localhost\r\nContent-Type: application/json\r\n"
SLOW = {
    "half a head": "GET /healthz HTTP/1.1\r\nHost: local",
    "half a body": f"POST /v1/pools HTTP/1.1\r\n{JSON}Content-Length: 1000\r\n\r\n{{",
    "a body that is announced only": f"GET /healthz HTTP/1.1\r\n{JSON}Content-Length: 9\r\n\r\n",
    "an upload to nothing": "PUT /v1/images/nope/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\nx",
    "a connection that is never closed": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "line ends first": "\r\n\r\n\r\nGET /heal",
    "nothing": "",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
def test_slow_clients_hold_up_nobody(served: Served, sent: str) -> None:
    """More than there are threads, and all of them before the others."""
    with clients(served, 2 * THREADS) as slow:
        for client in slow:
            client.sendall(sent.encode())
        for _ in range(20):
            assert served.http.get("/v1/vms").status_code == 200


@pytest.mark.parametrize(
    ("length", "is_over"),
    [("9", False), ("9".zfill(30), False), ("0", True), ("9" * 30, True), (str(MAX_BODY_BYTES + 1).zfill(30), True)],
)
def test_no_thread_waits_for_a_body_however_its_length_is_written(length: str, is_over: bool) -> None:
    """Over: there is nothing more to wait for, or it is refused."""
    ours, client = socket.socketpair()
    with ours, client:
        connection = Connection(lambda _: None, Config(), ours, None, None)
        connection.begin()
        head = f"POST /v1/pools HTTP/1.1\r\n{JSON}Content-Length: {length}\r\n\r\n"
        assert (connection.take(head.encode()) is not None) == is_over


def test_of_too_many_connections_the_oldest_goes(served: Served) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * CONNECTIONS), hard))
    try:
        with clients(served, CONNECTIONS + 20) as idle:
            assert served.http.get("/healthz").status_code == 200
            assert idle[0].recv(1) == b""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_head_has_no_body(served: Served) -> None:
    with clients(served, 1) as (client,):
        client.sendall(
            b"HEAD /v1/pools/default HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        reader = client.makefile("rb")
        assert reader.readline().split()[1] == b"200"
        headers = http.client.parse_headers(reader)
        assert int(headers["Content-Length"]) > 0
        assert read_answer(reader)[2] == {"status": "ok"}


def test_a_request_that_comes_byte_by_byte_is_answered(served: Served) -> None:
    body = json.dumps({"name": "slow", "path": "/slow"})
    with clients(served, 1) as (client,):
        for byte in f"POST /v1/pools HTTP/1.1\r\n{JSON}Content-Length: {len(body)}\r\n\r\n{body}".encode():
            client.sendall(bytes([byte]))
        assert answer(client)[0] == 201


def test_requests_sent_at_once_are_answered_in_turn(served: Served) -> None:
    def request(path: str, body: str = "") -> str:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\n{JSON}{length}\r\n{body}"

    pool = request("/v1/pools", json.dumps({"name": "second", "path": "/second"}))
    with clients(served, 1) as (client,):
        client.sendall((request("/healthz") + pool + request("/v1/pools/second") + "GET /healthz HTTP/1.1\r\nHo").encode())
        reader = client.makefile("rb")
        assert [read_answer(reader)[0] for _ in range(3)] == [200, 201, 200]
        client.sendall(b"st: localhost\r\n\r\n")
        assert read_answer(reader)[0] == 200


@pytest.mark.parametrize(
    ("head", "body", "status", "code"),
    [
        (f"Content-Length: {50 * 2**20}\r\n", b" " * 50 * 2**20, 413, "request_entity_too_large"),
        ("Transfer-Encoding: chunked\r\n", b"1\r\n{\r\n", 411, "length_required"),
        (f"X-Long: {'x' * 70_000}\r\n", b"", 431, "head_too_large"),
    ],
)
def test_what_is_too_large_is_refused_with_an_envelope(served: Served, head: str, body: bytes, status: int, code: str) -> None:
    with clients(served, 1) as (client,):
        request = f"POST /v1/pools HTTP/1.1\r\n{JSON}{head}\r\n".encode() + body
        sending = threading.Thread(target=lambda: send_what_is_taken(client, request))
        sending.start()
        got, headers, said = answer(client)
        assert (got, said["error"]["code"]) == (status, code)
        assert (said["request_id"], __version__) == (headers["x-request-id"], headers["x-ucloud-version"])
        assert client.recv(1) == b""
        sending.join(timeout=50)


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        ("NONSENSE", 400, "bad_request"),
        ("GET / HTTP/9.9", 400, "bad_request"),
        (f"GET /{'x' * 5000} HTTP/1.1", 414, "uri_too_long"),
    ],
)
def test_what_is_no_request_is_refused_with_an_envelope(served: Served, request_line: str, status: int, code: str) -> None:
    with clients(served, 1) as (client,):
        client.sendall(f"{request_line}\r\nHost: localhost\r\n\r\n".encode())
        got, _, said = answer(client)
        assert (got, said["error"]["code"]) == (status, code)


def send_what_is_taken(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


def test_a_client_that_asks_whether_to_go_on_is_told_once(served: Served) -> None:
    body = json.dumps({"name": "polite", "path": "/polite"}).encode()
    with clients(served, 1) as (client,):
        head = f"POST /v1/pools HTTP/1.1\r\n{JSON}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(12) == b"HTTP/1.1 201"


def test_a_thousand_requests_that_wait(served: Served) -> None:
    """As many as have a place wait, the others are told when to come again, and short requests are answered meanwhile."""
    made = served.http.post("/v1/images", json={"name": "tiny", "bytes": len(DATA), "sha256": SHA256}).json()
    wait = f"GET /v1/actions/{made['action']['id']}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with clients(served, 1000) as waiting:
        for client in waiting:
            client.sendall(wait.encode())
        poll = select.poll()
        for client in waiting:
            poll.register(client, select.POLLIN)
        left = {client.fileno(): client for client in waiting}
        while len(left) > MAX_WAITS:
            for number, _ in poll.poll(50_000):
                poll.unregister(number)
                status, headers, said = answer(left.pop(number))
                assert (status, headers["retry-after"], said["error"]["code"]) == (503, "2", "temporary")
        assert f"ucloud_api_waits {MAX_WAITS}.0" in served.http.get("/metrics").text
        assert served.http.get("/v1/images/tiny").status_code == 200
        served.process.terminate()
        assert [answer(client)[0] for client in left.values()] == [200] * MAX_WAITS
    assert served.process.wait(timeout=50) == 0
