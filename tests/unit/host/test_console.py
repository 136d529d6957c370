"""Consoles and waiting for logs, asked of the host's own server; the guests are fakes, the WebSockets real."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ucloud.driver.hypervisor.contract import GuestSpec
from ucloud.driver.hypervisor.fake import FakeHypervisor
from ucloud.host.console import MAX_VIEWERS_OF_VM
from ucloud.host.endpoint import Server

VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
SPEC = GuestSpec(vm=VM, name="web", epoch=1, boots=1, cpus=1, memory_mib=64)
DEADLINE_S = 30.0
HEADERS = {"Authorization": "Bearer token"}


class Viewer:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen, self.notices, self.typing, self.at = b"", list[str](), None, None

    def until(self, holds: Callable[["Viewer"], Any]) -> None:
        while not holds(self):
            message = self.socket.recv(DEADLINE_S)
            if isinstance(message, bytes):
                self.seen += message
                continue
            word = json.loads(message)
            self.at = word.get("at", self.at)
            self.typing = word.get("typing", self.typing)
            self.notices += [word["notice"]] if word.get("notice") else []

    def until_notice(self, part: str) -> None:
        self.until(lambda it: any(part in notice for notice in it.notices))

    def until_seen(self, text: bytes) -> None:
        self.until(lambda it: text in it.seen)

    def take(self) -> None:
        self.socket.send('{"take": true}')


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    hypervisor = FakeHypervisor({})
    hypervisor.start(SPEC)
    return hypervisor


@pytest.fixture
def server(hypervisor: FakeHypervisor) -> Iterator[Server]:
    server = Server("::1", "token", hypervisor)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield server
    server.shutdown()
    server.server_close()
    serving.join()


@pytest.fixture
def look(server: Server) -> Iterator[Callable[..., Viewer]]:
    with ExitStack() as opened:

        def open(query: str = "", vm: str = VM) -> Viewer:
            url = f"{server.url.replace('http', 'ws')}/v1/vm/{vm}/console?{query}"
            connection = connect(url, additional_headers=HEADERS, proxy=None, close_timeout=1)
            return Viewer(opened.enter_context(connection))

        yield open


def test_a_viewer_sees_the_last_lines_and_types(look: Callable[..., Viewer]) -> None:
    viewer = look()
    viewer.until_seen(b"fake guest web")
    viewer.until(lambda it: it.typing)
    viewer.socket.send(b"ls\r")
    viewer.until_seen(b"ls\r")
    assert viewer.notices == []


def test_one_types_and_all_see_it(look: Callable[..., Viewer]) -> None:
    first, second, third = look(), look(), look("read_only=1")
    first.until(lambda it: it.typing)
    second.until_notice("somebody else is typing")
    third.until(lambda it: it.typing is False)
    assert third.notices == []
    second.socket.send(b"SECOND")
    second.until_notice("not typed")
    first.socket.send(b"FIRST")
    for viewer in (first, second, third):
        viewer.until_seen(b"FIRST")
        assert b"SECOND" not in viewer.seen


def test_typing_is_taken_over_or_inherited(look: Callable[..., Viewer]) -> None:
    first = look()
    first.until(lambda it: it.typing)
    second = look("take=1")
    second.until(lambda it: it.typing)
    first.until_notice("somebody else is typing")
    first.take()
    first.until_notice("you may type now")
    second.until(lambda it: it.typing is False)
    first.socket.close()
    while not second.typing:  # the server may learn a moment later that the first one left
        second.socket.send(b"x")
        with suppress(TimeoutError):
            second.until(lambda it: it.typing or it.notices[-1].startswith("not typed"))
            second.notices.append("")


def test_who_may_not_type_cannot_take_over(look: Callable[..., Viewer]) -> None:
    viewer = look("read_only=1&take=1")
    viewer.take()
    viewer.socket.send(b"x")
    viewer.until_notice("not typed: you only look on")


def test_a_line_outlives_its_guests(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    viewer = look()
    viewer.until_seen(b"boots 1")
    viewer.socket.send(b"one")
    viewer.until_seen(b"one")
    hypervisor.kill(VM)
    viewer.until_notice("does not run")
    viewer.socket.send(b"lost")
    viewer.until_notice("not typed: the guest does not run")
    hypervisor.start(GuestSpec(vm=VM, name="web", epoch=1, boots=2, cpus=1, memory_mib=64))
    viewer.until_seen(b"boots 2")
    viewer.until_notice("the guest runs (boot 2)")
    viewer.socket.send(b"two")
    viewer.until_seen(b"two")
    hypervisor.power_off(VM)
    viewer.until_notice("powered itself off")


def test_a_guest_that_was_never_started_is_waited_for(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    other = VM[:-1] + "0"
    viewer = look(vm=other)
    viewer.until_notice("does not run")
    hypervisor.start(GuestSpec(vm=other, name="db", epoch=1, boots=1, cpus=1, memory_mib=64))
    viewer.until_seen(b"fake guest db")


def test_a_viewer_goes_on_where_it_was(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    first = look()
    first.until_seen(b"fake guest")
    place = first.at + len(first.seen)
    first.socket.close()
    hypervisor.write(VM, b"meanwhile")
    second = look(f"after={place}")
    second.until_seen(b"meanwhile")
    assert (second.seen, second.at) == (b"meanwhile", place)


def test_who_is_slower_than_the_guest_is_told_what_it_missed(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    hypervisor.write(VM, b"x" * (4 << 20))
    look("after=1").until_notice("bytes are gone")


def test_a_viewer_of_a_vm_that_leaves_is_told(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    viewer = look()
    viewer.until_seen(b"fake guest")
    hypervisor.kill(VM)
    hypervisor.forget(VM)
    with pytest.raises(ConnectionClosed) as closed:
        viewer.until(lambda it: False)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1001


def test_a_daemon_that_stops_tells_its_viewers(look: Callable[..., Viewer], server: Server) -> None:
    viewer = look()
    server.shutdown()
    with pytest.raises(ConnectionClosed) as closed:
        viewer.until(lambda it: False)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012


def test_a_guest_that_takes_nothing_is_told(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    hypervisor.deaf.add(VM)
    viewer = look()
    viewer.socket.send(b"x")
    viewer.until_notice("not typed: the guest takes nothing")


def test_places_are_limited_and_given_back(look: Callable[..., Viewer]) -> None:
    viewers = [look("read_only=1") for _ in range(MAX_VIEWERS_OF_VM)]
    with pytest.raises(InvalidStatus) as refused:
        look()
    assert refused.value.response.status_code == 503
    viewers[0].socket.close()
    while True:  # as soon as the server has noticed
        with suppress(InvalidStatus):
            look().until_seen(b"fake guest")
            return


def test_a_viewer_that_disappears_leaves_its_place(look: Callable[..., Viewer]) -> None:
    first = look()
    first.until(lambda it: it.typing)
    first.socket.socket.shutdown(2)  # not a word more
    second = look()
    while not second.typing:
        second.socket.send(b"x")
        second.until(lambda it: it.typing or it.notices)
        second.notices.clear()


def test_a_wish_that_makes_no_sense_changes_nothing(look: Callable[..., Viewer], hypervisor: FakeHypervisor) -> None:
    viewer = look()
    viewer.socket.send('{"x":' + "[" * 60_000)
    viewer.socket.send(b"still here\n")
    viewer.until_seen(b"still here")


def test_what_is_no_websocket_is_refused(server: Server) -> None:
    url = f"{server.url}/v1/vm/{VM}/console"
    assert httpx.get(url, headers=HEADERS, trust_env=False).status_code == 426
    assert httpx.get(url, trust_env=False).status_code == 401


def test_a_log_is_waited_for(server: Server, hypervisor: FakeHypervisor) -> None:
    def get(query: str) -> httpx.Response:
        return httpx.get(f"{server.url}/v1/vm/{VM}/log?{query}", headers=HEADERS, trust_env=False, timeout=DEADLINE_S)

    first = get("")
    assert first.content.startswith(b"fake guest web")
    end = first.headers["X-Log-End"]
    assert get(f"after={end}").content == b""
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(get(f"after={end}&wait=30")))
    waiting.start()
    hypervisor.write(VM, b"more")
    waiting.join()
    assert answers[0].content == b"more"
    assert answers[0].headers["X-Log-Start"] == end
