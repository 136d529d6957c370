"""The QMP client against a qemu that we play ourselves, over a socket pair."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor.qmp import Qmp
from ucloud.driver.hypervisor.watcher import Watcher

GREETING = {"QMP": {"version": {}, "capabilities": []}}


class FakeQemu:
    """answers: what to say to each command in turn, some lines each; {"id": True} stands for the command's own id."""

    def __init__(self, answers: list[list[Any]]) -> None:
        self.events: list[str] = []
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.qmp = Qmp(ours, self.events.append)
        self._socket = theirs
        self._answers = answers
        self._watcher = Watcher("test")
        self._watcher.add(self.qmp.fileno(), self._readable)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._watcher.close()
        self.qmp.close()
        self._socket.close()
        self._thread.join()

    def _readable(self) -> None:
        if not self.qmp.receive():
            self._watcher.remove(self.qmp.fileno())
            self.qmp.close()

    def _serve(self) -> None:
        self._say(GREETING, None)
        with self._socket.makefile("r") as commands:
            for answers, line in zip(self._answers, commands, strict=False):  # in this order: reads no more than it answers
                for answer in answers:
                    self._say(answer, json.loads(line)["id"])
        if self._answers and self._answers[-1] == ["hang up"]:
            self._socket.shutdown(socket.SHUT_RDWR)

    def _say(self, message: Any, number: int | None) -> None:
        if isinstance(message, dict):
            message = json.dumps({**message, "id": number} if message.get("id") is True else message)
        if message != "hang up":
            self._socket.sendall(f"{message}\r\n".encode())


@pytest.fixture
def qemu(request: pytest.FixtureRequest) -> Iterator[FakeQemu]:
    qemu = FakeQemu(request.param)
    yield qemu
    qemu.close()


OK = {"return": {"status": "running"}, "id": True}


@pytest.mark.parametrize("qemu", [[[{"event": "STOP"}, OK], [OK]]], indirect=True)
def test_answers_and_events_are_told_apart(qemu: FakeQemu) -> None:
    assert qemu.qmp.call("query-status") == {"status": "running"}
    assert qemu.events == ["STOP"]
    assert qemu.qmp.call("query-status") == {"status": "running"}


@pytest.mark.parametrize("qemu", [[[], [{"return": "late", "id": 1}, OK]]], indirect=True)
def test_a_late_answer_is_not_taken_for_the_next_one(qemu: FakeQemu) -> None:
    with pytest.raises(Temporary):
        qemu.qmp.call("query-status", deadline_s=0.05)
    assert qemu.qmp.call("query-status") == {"status": "running"}


@pytest.mark.parametrize("qemu", [[[{"error": {"class": "GenericError", "desc": "no such luck"}, "id": True}]]], indirect=True)
def test_a_refusal_is_told(qemu: FakeQemu) -> None:
    with pytest.raises(Temporary, match="no such luck"):
        qemu.qmp.call("system_powerdown")


@pytest.mark.parametrize("qemu", [[["this is not JSON"]], [["[" * 100000]], [['{"event": 1}']], [["hang up"]]], indirect=True)
def test_nobody_waits_for_a_qemu_that_is_gone(qemu: FakeQemu) -> None:
    for _ in range(2):
        with pytest.raises(Temporary):
            qemu.qmp.call("query-status", deadline_s=60)
    assert not qemu.qmp.open


@pytest.fixture
def pair() -> Iterator[tuple[Qmp, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    qmp = Qmp(ours, lambda event: None)
    with theirs:
        yield qmp, theirs
    qmp.close()


def test_text_that_is_none_ends_the_connection(pair: tuple[Qmp, socket.socket]) -> None:
    qmp, qemu = pair
    qemu.sendall(b'{"event": "\xff"}\n')
    assert not qmp.receive()


def test_answers_without_end_hold_nobody_up(pair: tuple[Qmp, socket.socket]) -> None:
    """To other calls than the one that is waited for."""
    qmp, qemu = pair
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            qemu.sendall(b'{"return": {}, "id": 7}\n')
            qmp.receive()

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        with pytest.raises(Temporary, match="in time"):
            qmp.call("query-status", deadline_s=0.05)
    finally:
        done.set()
        flooding.join()
