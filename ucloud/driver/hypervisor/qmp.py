"""QMP, qemu's control protocol: JSON lines over a unix socket (docs/interop/qmp-spec.txt in qemu's source).

Called by qemu_guest.py. Events arrive whenever they like, so one thread reads for all connections (`receive`, called by the
watcher) and hands answers to the caller that waits for them. Every call has a deadline; a qemu that does not answer is
Temporary.
"""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ucloud.base.errors import Temporary

CALL_S = 5.0
LONGEST_LINE = 1 << 20


class Refusal(msgspec.Struct, frozen=True):
    desc: str = ""


class Message(msgspec.Struct, frozen=True):
    """A line from qemu, which may be in the hands of its guest: an event, an answer, or (without either) the greeting."""

    event: str = ""
    id: int | None = None
    result: Any = msgspec.field(name="return", default=None)
    error: Refusal | None = None


def listen(path: Path) -> socket.socket:
    """A listening socket of that name. The way around over /proc allows names longer than 107 bytes."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        listener.listen(1)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


class Qmp:
    """One connection. qemu serves one at a time; another one waits in line until this one is closed."""

    def __init__(self, connection: socket.socket, on_event: Callable[[str], None]) -> None:
        self.open = True
        self._connection = connection
        self._on_event = on_event
        self._rest = b""
        self._answers: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._calling = threading.Lock()
        self._number = 0

    def fileno(self) -> int:
        return self._connection.fileno()

    def call(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline_s: float = CALL_S,
        descriptors: Sequence[int] = (),
    ) -> Any:
        """The command's result. descriptors: sent along with it. Raises Temporary when there is none in time, or when qemu
        refuses."""
        until_s = time.monotonic() + deadline_s
        with self._calling:
            self._number += 1
            self._send({"execute": command, "arguments": arguments or {}, "id": self._number}, descriptors)
            while True:
                answer = self._next_answer(command, until_s)
                if answer.id == self._number:  # else it is the late answer to a call that was given up
                    break
        if answer.error:
            raise Temporary(f"qemu refuses {command}: {answer.error.desc}")
        return answer.result

    def receive(self) -> bool:
        """Take in what has arrived, without blocking. False when nothing more can be expected: then close."""
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        understood = [self._take(line) for line in lines]
        return bool(data) and len(self._rest) < LONGEST_LINE and all(understood)

    def close(self) -> None:
        self.open = False
        self._connection.close()
        self._answers.put(None)

    def _take(self, line: bytes) -> bool:
        try:
            message = msgspec.json.decode(line, type=Message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if message.event:
            self._on_event(message.event)
        elif message.id is not None and self._calling.locked():
            self._answers.put(message)
        return True

    def _send(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        line = msgspec.json.encode(message) + b"\n"
        try:
            sent = socket.send_fds(self._connection, [line], descriptors) if descriptors else 0
            self._connection.sendall(line[sent:])
        except OSError as error:
            raise Temporary(f"qemu cannot be spoken to: {error.strerror}") from error

    def _next_answer(self, command: str, until_s: float) -> Message:
        left_s = until_s - time.monotonic()
        try:
            if left_s <= 0:
                raise queue.Empty  # though there may be answers: to other calls, without end
            answer = self._answers.get(timeout=left_s)
        except queue.Empty:
            raise Temporary(f"qemu did not answer {command} in time") from None
        if answer is None:
            self._answers.put(None)  # for the next caller
            raise Temporary(f"qemu hung up instead of answering {command}")
        return answer
