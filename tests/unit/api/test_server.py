"""The API behind its real server: a process of its own, on a unix socket and on TCP."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.api.cloud import DATA, SHA256
from ucloud.api.server import THREADS

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


def test_clients_that_never_end_their_head_hold_no_thread_for_long(served: Served) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(THREADS):
            slow = opened.enter_context(socket.socket(socket.AF_UNIX))
            slow.connect(str(served.path))
            slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert served.http.get("/healthz").status_code == 200
