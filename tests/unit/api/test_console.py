"""Consoles and followed logs through the real server and a host's real endpoint; only the guest is a fake."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.unit.api.console_server import DEADLINE_S, IDLE, VM, Served, wait_for
from ucloud.api.services import MAX_CONSOLES
from ucloud.base.errors import Conflict, NotFound, Temporary, Unauthenticated
from ucloud.client.console import Console, Ended, connected


def until_seen(console: Console, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += console.receive(DEADLINE_S).data
    return seen


def until_notice(console: Console, part: str) -> None:
    while part not in console.receive(DEADLINE_S).notice:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "api.sock")
    try:
        yield served
    finally:
        served.close()


def test_a_console_shows_and_types_through_restarts_of_the_guest(served: Served) -> None:
    with served.client.open_console("web") as console:
        until_seen(console, b"boots 1\n")
        console.send(b"hello")
        until_seen(console, b"hello")
        served.tell("restart")
        until_seen(console, b"boots 2\n")
        console.send(b"again" * 20_000 + b"!")  # much at once
        assert until_seen(console, b"!").count(b"again") == 20_000


def test_many_look_on_one_types_and_another_takes_over(served: Served) -> None:
    with ExitStack() as opened:
        first = opened.enter_context(served.client.open_console("web"))
        second = opened.enter_context(served.client.open_console("web"))
        third = opened.enter_context(served.client.open_console("web", read_only=True))
        until_notice(second, "somebody else is typing")
        first.send(b"FIRST")
        for console in (first, second, third):
            until_seen(console, b"FIRST")
        second.take()
        until_notice(first, "somebody else is typing")
        until_notice(second, "you may type now")
        second.send(b"SECOND")
        until_seen(third, b"SECOND")


def test_a_console_goes_on_where_another_one_ended(served: Served) -> None:
    with served.client.open_console("web") as console:
        until_seen(console, b"boots 1\n")
    served.tell("write meanwhile")
    with served.client.open_console("web", place=console.place) as console:
        assert until_seen(console, b"meanwhile") == b"meanwhile"


def test_a_ticket_opens_one_console_once(served: Served) -> None:
    answer = served.http.post(f"/v1/vms/{VM}/actions/console")
    assert answer.status_code == 201
    told = answer.json()
    assert told["url"] == f"ws://localhost/v1/vms/{VM}/console"
    address = f"unix:{served.path}"
    path = f"/v1/vms/{VM}/console"
    for wrong_path, ticket in ((path, "wrong"), (f"/v1/vms/{IDLE}/console", told["ticket"])):
        with pytest.raises(Unauthenticated), connected(address, wrong_path, ticket):
            pass
    listed = served.http.get("/v1/internal/ticket/").text
    assert VM in listed
    assert told["ticket"] not in listed
    with connected(address, path, told["ticket"]) as socket:
        assert socket.subprotocol == "ucloud.console"
    with pytest.raises(Unauthenticated), connected(address, path, told["ticket"]):
        pass
    again = served.http.post(f"/v1/vms/{VM}/actions/console").json()["ticket"]
    with connected(address, f"{path}?ticket={again}", "ucloud.console") as socket:
        assert socket.recv(DEADLINE_S)


def test_what_cannot_be_opened_is_told(served: Served) -> None:
    with pytest.raises(NotFound):
        served.client.open_console("nobody")
    with pytest.raises(Conflict, match="no host yet"):
        served.client.open_console("idle")
    plain = served.http.get(f"/v1/vms/{VM}/console")
    assert (plain.status_code, plain.json()["error"]["code"]) == (422, "invalid")
    ticket = served.http.post(f"/v1/vms/{VM}/actions/console").json()["ticket"]
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "A" * 22 + "==",
        "Sec-WebSocket-Version": "13",
    }
    foreign = served.http.get(
        f"/v1/vms/{VM}/console", headers={**headers, "Origin": "http://evil.example", "Sec-WebSocket-Protocol": ticket}
    )
    assert foreign.status_code == 403


def test_tickets_of_a_vm_are_limited(served: Served) -> None:
    statuses = [served.http.post(f"/v1/vms/{VM}/actions/console").status_code for _ in range(33)]
    assert statuses == [201] * 32 + [429]


def test_consoles_have_places_that_come_back(served: Served) -> None:
    with ExitStack() as opened:
        consoles = [opened.enter_context(served.client.open_console("web", read_only=True)) for _ in range(MAX_CONSOLES)]
        with pytest.raises(Temporary, match="too many"):
            served.client.open_console("web")
        for console in consoles:
            until_seen(console, b"boots 1\n")
        assert served.http.get("/v1/vms/web").status_code == 200
        consoles[0]._socket.socket.shutdown(socket.SHUT_RDWR)  # it disappears without a word

        def is_free() -> bool:
            with suppress(Temporary):
                until_seen(opened.enter_context(served.client.open_console("web")), b"boots 1\n")
                return True
            return False

        wait_for(is_free, "the place of the one that disappeared")


def test_a_server_that_stops_ends_consoles_and_followers(served: Served) -> None:
    ended = threading.Event()

    def follow() -> None:
        with suppress(httpx.TransportError), served.http.stream("GET", "/v1/vms/web/log?follow=true") as response:
            for _ in response.iter_bytes():
                pass
        ended.set()

    with served.client.open_console("web") as console:
        until_seen(console, b"boots 1\n")
        threading.Thread(target=follow).start()
        served.tell("write x")
        until_seen(console, b"x")
        served.process.terminate()
        with pytest.raises(Ended):
            until_seen(console, b"no more")
    assert ended.wait(DEADLINE_S)
    assert served.process.wait(timeout=DEADLINE_S) == 0


def test_a_log_is_followed_through_a_restart_until_the_vm_is_deleted(served: Served) -> None:
    seen = b""
    with served.http.stream("GET", "/v1/vms/web/log?follow=true") as response:
        for number, data in enumerate(response.iter_bytes()):
            seen += data
            if number == 0:
                served.tell("restart")
            if b"boots 2\n" in seen:
                served.tell("delete")
    assert seen.count(b"boots") == 2


def test_the_client_follows_a_log(served: Served) -> None:
    pieces = served.client.follow_log("web")
    assert next(pieces).endswith(b"boots 1\n")
    served.tell("write more")
    assert next(pieces) == b"more"
    served.tell("delete")
    with pytest.raises(NotFound):
        next(pieces)
