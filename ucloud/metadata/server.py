"""The metadata service's HTTP: one request for each connection, read, answered and closed within `PATIENCE_S`.

It is spoken to by hostile guests: it is one thread that never waits for anybody; h11 knows what is HTTP; a head is small, and
there are no bodies; what one guest may have at once is bounded (`visitors.py`), and who is refused costs an accept and a
close. Where a request came from is said by its socket alone. Used by `ucloud daemon metadata`.
"""

import asyncio
import errno
import itertools
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import h11

from ucloud.base.errors import Temporary
from ucloud.metadata.answers import Answer, Request
from ucloud.metadata.visitors import Visitors

log = logging.getLogger("ucloud.metadata")

PATIENCE_S = 10.0
MAX_HEAD_BYTES = 4096  # curl's has 100; each header takes h11 a microsecond or two
MAX_CONNECTIONS = 2048  # then the oldest has to go
MAX_UNSENT_BYTES = 64 * 1024 * 1024  # of answers that guests do not read; then the oldest of these has to go
ACCEPTED_AT_ONCE = 64  # then those inside are served
REPORT_S = 60.0
NO_ROOM = (errno.EMFILE, errno.ENFILE)
REFUSE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset, and nothing is remembered
BODILESS = Answer(413, b"no bodies here\n")
TOO_LARGE = Answer(431, b"too large\n")


class Source(NamedTuple):
    """interface: its number, for link-local addresses; else 0."""

    address: str
    interface: int


Reply = Callable[[Source, Request], Answer]


class Server:
    """listener: listens already. reply: at once; its ucloud errors end the server."""

    def __init__(self, listener: socket.socket, reply: Reply) -> None:
        self.reply, self.visitors = reply, Visitors()
        self.open: dict[Conversation, None] = {}  # oldest first
        self._listener, self._refused = listener, Counter[str]()
        self._opening: set[asyncio.Future[Any]] = set()
        self._ended: asyncio.Future[None]

    async def run(self) -> None:
        """Until `end`; raises the error that it was given."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        loop.call_later(REPORT_S, self._report)
        try:
            await self._ended
        finally:
            loop.remove_reader(self._listener)

    def end(self, error: Temporary | None = None) -> None:
        if self._ended.done():
            return
        if error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, (address, _, _, interface) = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    continue  # it has left again
                self._hang_up(1)
                return
            source = Source(address, interface)
            if not self.visitors.may_enter(source):
                self._refused[address] += 1
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, REFUSE)
                sock.close()
                continue
            sock.setblocking(False)
            opening = asyncio.ensure_future(loop.connect_accepted_socket(partial(Conversation, self, source), sock))
            self._opening.add(opening)  # else nobody knows it
            opening.add_done_callback(self._opening.discard)
        self._hang_up(len(self.open) - MAX_CONNECTIONS)

    def _hang_up(self, number: int) -> None:
        """On those that have been here for longest."""
        for oldest in list(itertools.islice(self.open, max(0, number))):
            oldest.hang_up()

    def make_room(self) -> None:
        """For answers that are not read."""
        unread = [conversation for conversation in self.open if conversation.unsent_bytes]
        left_bytes = sum(conversation.unsent_bytes for conversation in unread)
        for oldest in unread:
            if left_bytes <= MAX_UNSENT_BYTES:
                return
            left_bytes -= oldest.unsent_bytes
            oldest.hang_up()

    def _report(self) -> None:
        """One line for all that was refused meanwhile."""
        if self._refused:
            address, most = self._refused.most_common(1)[0]
            log.warning("refused %d connections of guests that have too many, %d of %s", self._refused.total(), most, address)
            self._refused.clear()
        asyncio.get_running_loop().call_later(REPORT_S, self._report)


class Conversation(asyncio.Protocol):
    def __init__(self, server: Server, source: Source) -> None:
        self._server, self._source = server, source
        self._http = h11.Connection(h11.SERVER)
        self._received_bytes, self._is_answered = 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.open[self] = None
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self.hang_up)

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def hang_up(self) -> None:
        """What was not received is forgotten by the kernel as well."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, REFUSE)
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._patience.cancel()
        self._server.visitors.leaves(self._source)
        del self._server.open[self]

    def data_received(self, data: bytes) -> None:
        if self._is_answered:
            return
        self._received_bytes += len(data)
        if self._received_bytes > MAX_HEAD_BYTES:  # h11 would take any head that comes as a whole
            self._say(TOO_LARGE)
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._say(Answer(error.error_status_hint, b"this is no request\n"))
            return
        if isinstance(event, h11.Request):
            self._answer(event)

    def _answer(self, event: h11.Request) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        with_body = event.method != b"HEAD"
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            self._say(BODILESS, with_body=with_body)
            return
        request = Request(event.method.decode("latin-1"), event.target.decode("latin-1"), headers)
        try:
            self._say(self._server.reply(self._source, request), with_body=with_body)
        except Temporary as error:
            self.hang_up()
            self._server.end(error)

    def _say(self, answer: Answer, *, with_body: bool = True) -> None:
        headers = [("Content-Type", answer.type), ("Content-Length", f"{len(answer.body)}"), ("Connection", "close")]
        if answer.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        events: list[h11.Event] = [
            h11.Response(status_code=answer.status, reason=HTTPStatus(answer.status).phrase, headers=headers)
        ]
        if with_body:
            events.append(h11.Data(data=answer.body))
        self._is_answered = True
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        self._transport.close()
        if self.unsent_bytes:
            self._server.make_room()
