"""gunicorn's worker of threads, but with a front: requests are gathered in the main thread, which never waits for one client
alone, and get a thread only when they are there as a whole. So clients that send slowly, or stop in the middle, hold up
nobody. Used by `ucloud.api.server`.

Only uploads (PUT) are read by their thread as they come; the application limits their number. What is too large, or comes
without its length, is refused here. Whoever has waited longest to send the rest of its request is hung up on when there are
too many connections. There is no TLS here.
"""

import contextlib
import errno
import io
import itertools
import logging
import re
import secrets
import socket
import time
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from types import FrameType
from typing import Any

import msgspec
from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from ucloud import __version__
from ucloud.api.body import MAX_BODY_BYTES
from ucloud.api.describe import ErrorAnswer, ErrorShown
from ucloud.base.text import one_line

log = logging.getLogger("ucloud.api.front")

REQUEST_S = 30.0  # to send a request that is no upload
LINGER_S = 5.0  # to take an answer after which the connection is closed
MAX_HEAD_BYTES = 64 * 1024
MAX_GATHERED_BYTES = 64 * 1024 * 1024  # of all requests together
SPARE_CONNECTIONS = 50  # so that new ones are always taken
CHUNK_BYTES = 64 * 1024
GONE_BEFORE = (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE)
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]+)[ \t]*(?=\r\n|$)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n|$)", re.IGNORECASE)


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no type annotations
    """received: what has arrived of the next request; `counted` of it is in the worker's sum. needed: how long the whole will
    be, once its head is there."""

    def __init__(self, linger: Callable[[socket.socket], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._linger = linger
        self.parser: Any = None
        self.received, self.counted, self.needed, self.deadline_s = bytearray(), 0, 0, 0.0
        self.searched = 0
        self.data_ready = True  # gunicorn need not wait for any

    def begin(self) -> None:
        """The next request: what is there of it was sent together with the last one."""
        self.received, self.needed, self.deadline_s = bytearray(), 0, time.monotonic() + REQUEST_S
        self.searched = 0
        if self.parser is None:
            self.parser = get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader.max_body_chunk = CHUNK_BYTES  # gunicorn copies what it has again and again
        else:
            self.received += self.parser.unreader.buf.getvalue()
            self.parser.unreader.buf = io.BytesIO()
        self.sock.setblocking(False)

    def hand_over(self) -> None:
        self.parser.unreader.unread(bytes(self.received))
        self.received = bytearray()

    def take(self, data: bytes) -> bytes | None:
        """Note what arrived. None: more is to come. Else what is to be answered at once, empty for a request that is whole."""
        self.received += data
        if not self.needed:
            if self.received.startswith(b"\r\n"):
                self.received, self.searched = self.received.lstrip(b"\r\n"), 0
            end = self.received.find(b"\r\n\r\n", self.searched)
            self.searched = max(0, len(self.received) - 3)
            if (len(self.received) if end < 0 else end) > MAX_HEAD_BYTES:
                return refusal(431, "head_too_large", f"the head may have {MAX_HEAD_BYTES} bytes at most")
            if end < 0:
                return None
            refused = self._read_head(end)
            if refused:
                return refused
        return b"" if len(self.received) >= self.needed else None

    def _read_head(self, end: int) -> bytes:
        head = bytes(self.received[:end])
        length = LENGTH.search(head)
        body = int(length[1][:18]) if length else 0  # whatever gunicorn takes for a length, or it would wait for the body
        self.needed = end + 4
        if head.startswith(b"PUT "):
            return b""
        if CHUNKED.search(head):
            return refusal(411, "length_required", "send the body with its Content-Length")
        if body > MAX_BODY_BYTES:
            return refusal(413, "request_entity_too_large", f"the body may have {MAX_BODY_BYTES} bytes at most")
        if EXPECT.search(head) and len(self.received) < self.needed + body:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        plain = EXPECT.sub(b"", head)  # else gunicorn says it again
        self.received[:end] = plain
        self.needed = len(plain) + 4 + body
        return b""

    def refuse(self, answer: bytes) -> None:
        self._send(answer)
        self.close(graceful=True)

    def _send(self, data: bytes) -> None:
        """As much as the system takes at once."""
        with contextlib.suppress(OSError):  # it is gone already, or never read an answer
            self.sock.send(data)

    def close(self, graceful: bool = False) -> None:
        """gunicorn would wait here, in the main thread, until the client has closed its side too."""
        if graceful:
            self._linger(self.sock)
        else:
            super().close()


def refusal(status: int, code: str, message: str) -> bytes:
    """A whole answer, in the envelope of all errors."""
    id = secrets.token_hex(8)
    body = msgspec.json.encode(ErrorAnswer(ErrorShown(code, message, {}), id)) + b"\n"
    head = (
        f"HTTP/1.1 {status} Refused",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {id}",
        f"X-Ucloud-Version: {__version__}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


class Worker(ThreadWorker):  # type: ignore[misc]
    """A stopping worker ends the waits of its clients at once; they ask again elsewhere."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._gathering: dict[Connection, None] = {}  # oldest first
        self._gathered_bytes = 0
        self._lingering: dict[socket.socket, float] = {}  # until when

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in GONE_BEFORE:
                raise
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self._linger, self.cfg, sock, address, listener.getsockname()))

    def enqueue_req(self, conn: Connection) -> None:
        """Called by gunicorn for every connection of which a request is expected."""
        conn.begin()
        self._gathering[conn] = None
        self._count(conn, len(conn.received))
        self.poller.register(conn.sock, EVENT_READ, partial(self._gather, conn))
        answer = conn.take(b"") if conn.received else None
        if answer is None:
            self._gather(conn, conn.sock)
        else:
            self._leave(conn, answer)

    def _gather(self, conn: Connection, _: Any) -> None:
        if conn not in self._gathering:
            return  # hung up on a moment ago
        try:
            data = conn.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(conn)
            return
        answer = conn.take(data)
        self._count(conn, len(conn.received))
        if answer is not None:
            self._leave(conn, answer)

    def _count(self, conn: Connection, size: int) -> None:
        self._gathered_bytes += size - conn.counted
        conn.counted = size

    def _leave(self, conn: Connection, answer: bytes) -> None:
        """Its request is whole, or is refused with `answer`."""
        self._forget(conn)
        if answer:
            self.nr_conns -= 1
            conn.refuse(answer)
        else:
            conn.hand_over()
            super().enqueue_req(conn)

    def _hang_up(self, conn: Connection) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _forget(self, conn: Connection) -> None:
        del self._gathering[conn]
        self._count(conn, 0)
        self.poller.unregister(conn.sock)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if req.method == "PUT":
            req.force_close()  # what is left of a refused upload need not be read by this thread
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Called by gunicorn in the request's thread. What cannot be understood gets the envelope of all errors, too."""
        if isinstance(exc, LimitRequestLine):
            answer = refusal(414, "uri_too_long", "the URL is too long")
        elif isinstance(exc, ParseException):
            answer = refusal(400, "bad_request", f"this is no request: {one_line(str(exc))}")
        else:
            log.error("a request failed outside of the application", exc_info=exc)
            answer = refusal(500, "internal", "ucloud made a mistake; its log tells more")
        with contextlib.suppress(OSError):
            client.setblocking(False)
            client.send(answer)

    def murder_pending(self) -> None:
        """Called by gunicorn after every round of events."""
        now_s = time.monotonic()
        while self._gathering and self._is_to_go(next(iter(self._gathering)), now_s):
            self._hang_up(next(iter(self._gathering)))
        if self.nr_conns > self.worker_connections - SPARE_CONNECTIONS and self.keepalived_conns:
            for conn in itertools.islice(self.keepalived_conns, SPARE_CONNECTIONS):
                conn.timeout = now_s  # gunicorn closes it then
        while self._lingering and (next(iter(self._lingering.values())) < now_s or len(self._lingering) > SPARE_CONNECTIONS):
            self._end_lingering(next(iter(self._lingering)))

    def _is_to_go(self, oldest: Connection, now_s: float) -> bool:
        is_full = self.nr_conns > self.worker_connections - SPARE_CONNECTIONS or self._gathered_bytes > MAX_GATHERED_BYTES
        return is_full or not self.alive or oldest.deadline_s < now_s

    def _linger(self, sock: socket.socket) -> None:
        """Until the client has taken its answer: it might be told of a reset instead, if anything that it sent were unread."""
        try:
            sock.shutdown(socket.SHUT_WR)
            sock.setblocking(False)
        except OSError:
            sock.close()
            return
        self._lingering[sock] = time.monotonic() + LINGER_S
        self.poller.register(sock, EVENT_READ, self._discard)

    def _discard(self, sock: socket.socket) -> None:
        if sock not in self._lingering:
            return
        try:
            data = sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end_lingering(sock)

    def _end_lingering(self, sock: socket.socket) -> None:
        del self._lingering[sock]
        self.poller.unregister(sock)
        sock.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # Not from within the signal handler: the main thread may hold a lock at this moment.
        self.method_queue.defer(self.app.end_waits)
