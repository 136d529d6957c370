"""One viewer of a guest's serial line, over a WebSocket that the API passes on from its client. Called by endpoint.py.

Binary messages are what the guest writes, and what the viewer types. Text messages are JSON: to the viewer a `Word`, from it
{"take": true}. The viewer's place in the log is told, so that it can go on there after a break.
"""

import contextlib
import select
import socket
import threading
import time

import msgspec
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from ucloud.base.errors import Forbidden, NotFound, Temporary
from ucloud.driver.hypervisor.contract import Guest, Hypervisor, Log
from ucloud.host.console import Lines, Seat
from ucloud.model.guest import NO_SPACE

HISTORY_BYTES = 8192  # shown first, so that the screen isn't empty
CHUNK_BYTES = 16384  # so that what is typed meanwhile need not wait long
MAX_MESSAGE_BYTES = 65536
SOON_S, LATER_S = 0.02, 0.25  # between looks at the log, while something happens and else
BUSY_S = 1.0
PING_S, PATIENCE_S = 15.0, 45.0
SEND_S = 20.0


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """at: the place in the log of the binary message that comes next. typing: whether this viewer may type. notice: for
    people."""

    at: int | None = None
    typing: bool | None = None
    notice: str = ""


class Wish(msgspec.Struct, frozen=True):
    take: bool = False


class Viewer:
    """Lives in its own thread. It is hung up on when it takes nothing for 20 s, or isn't heard of for 45 s."""

    def __init__(self, connection: socket.socket, hypervisor: Hypervisor, lines: Lines, seat: Seat) -> None:
        """connection: after the WebSocket's handshake."""
        self._connection = connection
        self._protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE_BYTES)
        self._hypervisor, self._lines, self._seat = hypervisor, lines, seat
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._at: int | None = None  # None: there is no log yet
        self._typing: bool | None = None
        self._told: dict[str, str] = {}
        self._heard_s = self._pinged_s = time.monotonic()
        self._moved_s = float("-inf")
        self._in_text = False

    def run(self, after: int | None, stopping: threading.Event) -> None:
        """Until it leaves, the VM is gone, or the daemon stops. after: where it was in the log; None: show the last lines."""
        self._connection.settimeout(SEND_S)
        with contextlib.suppress(OSError):  # it is gone
            self._show(-HISTORY_BYTES if after is None else after)
            while self._protocol.state is State.OPEN:
                if stopping.is_set():
                    self._close(CloseCode.SERVICE_RESTART, "the host daemon stops")
                    return
                self._tell_news()
                self._stay_in_touch()
                self._hear(SOON_S if self._is_busy() else LATER_S)
                self._show(self._at or 0)

    def _show(self, after: int) -> None:
        """What the guest wrote since."""
        try:
            log = self._hypervisor.log(self._seat.line.vm, after, CHUNK_BYTES)
        except NotFound:
            if self._at is not None:
                self._close(CloseCode.GOING_AWAY, "the VM is not on this host any more")
            return
        except Temporary as error:
            self._tell("log", error.message)
            return
        if after < 0:
            log = whole_lines(log)
        elif log.start > after:
            self._say(Word(notice=f"{log.start - after} bytes are gone: they came faster than they could be shown"))
        if log.start != self._at:
            self._say(Word(at=log.start))
        self._at = log.end
        if log.data and self._protocol.state is State.OPEN:
            self._moved_s = time.monotonic()
            self._protocol.send_binary(log.data)
            self._flush()

    def _is_busy(self) -> bool:
        return time.monotonic() - max(self._moved_s, self._seat.line.typed_s) < BUSY_S

    def _tell_news(self) -> None:
        guest = self._lines.guest(self._seat.line.vm)
        if "guest" in self._told or guest is None or guest.state != "running":
            self._tell("guest", words_of(guest))
        else:
            self._told["guest"] = words_of(guest)
        typing = self._seat.may_type
        if typing != self._typing:
            news = "somebody else is typing: you only look on"
            is_expected = self._typing is None and (typing or self._seat.read_only)
            self._say(Word(typing=typing, notice="" if is_expected else "you may type now" if typing else news))
            self._typing = typing

    def _stay_in_touch(self) -> None:
        now_s = time.monotonic()
        if now_s - self._heard_s > PATIENCE_S:
            raise TimeoutError
        if now_s - max(self._heard_s, self._pinged_s) > PING_S:
            self._pinged_s = now_s
            self._protocol.send_ping(b"")
            self._flush()

    def _hear(self, wait_s: float) -> None:
        if not self._poll.poll(wait_s * 1000):
            return
        data = self._connection.recv(MAX_MESSAGE_BYTES)
        if not data:
            raise ConnectionResetError
        self._heard_s = time.monotonic()
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            self._obey(frame)
        self._flush()

    def _obey(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._in_text = frame.opcode is Opcode.TEXT
        if frame.opcode in (Opcode.BINARY, Opcode.CONT) and not self._in_text:
            self._type(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            with contextlib.suppress(msgspec.DecodeError, RecursionError):  # another version's, or nonsense
                if msgspec.json.decode(frame.data, type=Wish).take:
                    self._seat.take()

    def _type(self, data: bytes) -> None:
        try:
            self._seat.type(data)
        except (Forbidden, NotFound, Temporary) as error:
            self._tell("typed", f"not typed: {error.message}")
        else:
            self._told.pop("typed", None)

    def _tell(self, subject: str, notice: str) -> None:
        """Not twice in a row."""
        if self._told.get(subject) != notice:
            self._told[subject] = notice
            self._say(Word(notice=notice))

    def _say(self, word: Word) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(msgspec.json.encode(word))
            self._flush()

    def _close(self, code: CloseCode, why: str) -> None:
        self._protocol.send_close(code, why)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)
            else:
                self._connection.shutdown(socket.SHUT_WR)


def whole_lines(log: Log) -> Log:
    """Without the rest of a line that began earlier."""
    cut = log.data.find(b"\n") + 1 if log.start else 0
    return Log(log.data[cut:], log.start + cut)


def words_of(guest: Guest | None) -> str:
    if guest is None:
        return "the guest does not run"
    states = {
        "powered-off": "the guest has powered itself off",
        "paused": "the guest is being started, or stands still",
        "no-space": NO_SPACE,
    }
    return states.get(guest.state, f"the guest runs (boot {guest.boots})")
