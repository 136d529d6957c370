"""Consoles and logs that go on, by the SDK: a VM's serial line over a WebSocket, or its output alone."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from ucloud.base.errors import Temporary
from ucloud.client.calls import Calls, Json, Tell, given, part
from ucloud.client.transport import Unreachable, error_of

SUBPROTOCOL = "ucloud.console"
SEND_BYTES = 16 * 1024  # hosts refuse messages that are much longer
OPEN_S, CLOSE_S = 10.0, 1.0
LOG_WAIT_S, LOG_PATIENCE_S = 10.0, 4.0
ASK_S, PATIENCE_S = 20.0, 20.0  # how often the server is asked whether it lives, and how long it may take to answer


class Ended(Temporary):
    """The connection is over: the server stops, or does not answer any more. `open_console` opens another one."""


@dataclass(frozen=True)
class Message:
    """data: what the guest said. notice: words of ucloud's, for people. typing: whether what is typed now reaches the guest;
    None: as before."""

    data: bytes = b""
    notice: str = ""
    typing: bool | None = None


class Console:
    """One connection. `send` and `take` may be called by another thread than `receive`.

    place: how far the guest's output was received; hand it to `open_console` to go on there.
    """

    def __init__(self, socket: Any, closing: contextlib.ExitStack, place: int) -> None:
        self.place = place
        self._socket, self._closing = socket, closing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def receive(self, timeout_s: float | None = None) -> Message:
        """What comes next. Raises TimeoutError; Ended."""
        from websockets.exceptions import ConnectionClosed

        try:
            message = self._socket.recv(timeout_s)
        except ConnectionClosed as error:
            raise Ended(error.rcvd.reason if error.rcvd and error.rcvd.reason else "the connection broke") from None
        if isinstance(message, bytes):
            self.place += len(message)
            return Message(message)
        word = json.loads(message)
        self.place = word.get("at", self.place)
        return Message(notice=word.get("notice", ""), typing=word.get("typing"))

    def send(self, data: bytes) -> None:
        """Type this. Raises Ended."""
        for start in range(0, len(data), SEND_BYTES):
            self._send(data[start : start + SEND_BYTES])

    def take(self) -> None:
        """Take over the typing from whoever has it. Raises Ended."""
        self._send('{"take": true}')

    def close(self) -> None:
        """Harmless when repeated."""
        self._closing.close()

    def _send(self, message: bytes | str) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(message)
        except ConnectionClosed:
            raise Ended("the connection broke") from None


class Consoles(Calls):
    def follow_log(self, vm: str, place: int = 0, on_trouble: Tell | None = None) -> Iterator[bytes]:
        """What the guests of a VM say, without end: from byte `place` of the log on, through reboots of the guest and restarts
        of everything else. on_trouble: called with the reason when nothing can be heard for a while. Raises NotFound once the
        VM is deleted."""
        path, trouble = f"{self._path_by_id('vm', vm)}/log", ""
        while True:
            params = {"after": place, "wait": LOG_WAIT_S}
            try:
                answer = self._transport.request("GET", path, params=params, patience_s=LOG_PATIENCE_S, wait_s=LOG_WAIT_S)
            except Temporary as error:
                if on_trouble and error.message != trouble:
                    on_trouble(error.message)
                trouble = error.message
                time.sleep(error.retry_s)
                continue
            place, trouble = int(answer.headers["X-Log-End"]), ""
            if answer.content:
                yield answer.content

    def open_console(self, vm: str, read_only: bool = False, take: bool = False, place: int | None = None) -> Console:
        """read_only: only look on. take: take over the typing, if somebody else has it. place: go on from there; else the last
        lines of the log come first. Raises NotFound, Conflict (it has no host yet), Temporary."""
        wishes: Json = given({"read_only": read_only or None, "take": take or None, "after": place})
        answer = self._post(f"{self._path_by_id('vm', vm)}/actions/console", wishes)
        path = urlsplit(part(answer, "url")).path
        closing = contextlib.ExitStack()
        socket = closing.enter_context(connected(self._transport.address, path, part(answer, "ticket")))
        return Console(socket, closing, place or 0)


@contextlib.contextmanager
def connected(address: str, path: str, ticket: str) -> Iterator[Any]:
    """A WebSocket to one API server. Raises its error, or Unreachable."""
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.sync.client import connect, unix_connect
    from websockets.typing import Subprotocol

    options: dict[str, Any] = {
        "subprotocols": [Subprotocol(SUBPROTOCOL), Subprotocol(ticket)],
        "compression": None,
        "proxy": None,
        "open_timeout": OPEN_S,
        "close_timeout": CLOSE_S,
        "ping_interval": ASK_S,
        "ping_timeout": PATIENCE_S,
    }
    with contextlib.ExitStack() as held:
        try:
            if address.startswith("unix:"):
                opening = unix_connect(address.removeprefix("unix:"), f"ws://localhost{path}", **options)
            else:
                opening = connect(f"{address.replace('http', 'ws', 1).rstrip('/')}{path}", **options)
            socket = held.enter_context(opening)
        except InvalidStatus as refused:
            told = refused.response
            raise error_of(
                httpx.Response(told.status_code, headers=dict(told.headers.raw_items()), content=bytes(told.body or b""))
            ) from None
        except (OSError, InvalidHandshake) as error:
            raise Unreachable("the API does not answer", details={address: str(error)}) from None
        yield socket
