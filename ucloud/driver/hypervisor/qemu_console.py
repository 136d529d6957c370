"""The keyboard of one guest: a connection to the socket `console` of its qemu. Called by qemu.py.

qemu serves one connection at a time, and holds the guest up while nobody reads from it. So whatever arrives is thrown away
at once: the log has it.
"""

import select
import socket
import time
from pathlib import Path

from ucloud.base.errors import NotFound, Temporary
from ucloud.driver.hypervisor import qmp
from ucloud.driver.hypervisor.watcher import Watcher

TAKE_S = 1.0
CHUNK_BYTES = 65536


class QemuConsole:
    def __init__(self, path: Path, watcher: Watcher) -> None:
        """Raises Temporary."""
        try:
            self._socket = qmp.connect(path)
        except OSError as error:
            raise Temporary(f"the guest's console cannot be reached: {error.strerror}") from error
        self._watcher = watcher
        watcher.add(self._socket.fileno(), self._discard)

    def type(self, data: bytes) -> None:
        deadline_s = time.monotonic() + TAKE_S
        while data:
            try:
                data = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                if not self._has_room(deadline_s - time.monotonic()):
                    raise Temporary("the guest takes nothing that is typed") from None
            except OSError as error:
                raise NotFound("the guest is gone") from error

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._watcher.remove(self._socket.fileno())
            self._socket.close()

    def _has_room(self, wait_s: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return wait_s > 0 and bool(poll.poll(wait_s * 1000))

    def _discard(self) -> None:
        descriptor = self._socket.fileno()
        try:
            ended = not self._socket.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:  # qemu is gone; who types notices it
            self._watcher.remove(descriptor)
