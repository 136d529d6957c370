"""One running guest as the driver sees it: its process, its QMP connection, and the state that qemu last told.

Called by qemu.py. The state is asked once and again after every event, so an idle guest costs nothing. A qemu that does not
answer keeps the state it had: one stuck guest must not hide the others.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor import qmp
from ucloud.driver.hypervisor.contract import GuestState
from ucloud.driver.hypervisor.qemu_process import GuestProcess
from ucloud.driver.hypervisor.watcher import Watcher

START_S = 30.0
STATE_S = 1.0
ASK_AGAIN_S = 5.0
EVENTS = frozenset({"SHUTDOWN", "STOP", "RESUME", "RESET", "GUEST_PANICKED"})
STATES: dict[str, GuestState] = {"running": "running", "shutdown": "powered-off"}  # all others: paused


class Status(msgspec.Struct, frozen=True):
    """QMP's answer to query-status, the part that we read."""

    status: str


class QemuGuest:
    def __init__(self, process: GuestProcess, socket: Path, watcher: Watcher, wake: Callable[[], None]) -> None:
        self.process = process
        self._socket = socket
        self._watcher = watcher
        self._wake = wake
        self._connecting = threading.Lock()
        self._asking = threading.Lock()
        self._qmp: qmp.Qmp | None = None
        self._state: GuestState = "paused"
        self._ask_at_s = 0.0

    def started(self) -> None:
        """Wait until it executes. Raises Temporary when it does not."""
        with self._asking:
            self._ask(START_S)
        if self._state == "paused":
            raise Temporary("qemu does not execute the guest")

    def state(self) -> GuestState:
        now_s = time.monotonic()
        if now_s >= self._ask_at_s and self._asking.acquire(blocking=False):
            try:
                self._ask(STATE_S)
            except Temporary:
                self._ask_at_s = now_s + ASK_AGAIN_S
            finally:
                self._asking.release()
        return self._state

    def _ask(self, deadline_s: float) -> None:
        self._ask_at_s = float("inf")  # before asking, so that an event meanwhile makes us ask again
        try:
            answer = msgspec.convert(self.call("query-status", deadline_s), Status)
        except msgspec.ValidationError as error:
            raise Temporary(f"qemu answers nonsense: {error}") from error
        self._state = STATES.get(answer.status, "paused")

    def call(self, command: str, deadline_s: float = qmp.CALL_S) -> Any:
        return self._connected(deadline_s).call(command, deadline_s)

    def close(self) -> None:
        with self._connecting:
            self._disconnect()

    def _connected(self, deadline_s: float) -> qmp.Qmp:
        with self._connecting:
            if self._qmp:
                return self._qmp
            try:
                connection = qmp.Qmp(qmp.connect(self._socket), self._on_event)
            except OSError as error:
                raise Temporary(f"qemu of {self.process.who.vm} cannot be spoken to: {error.strerror}") from error
            self._qmp = connection
            self._watcher.add(connection.fileno(), lambda: self._readable(connection))
        connection.call("qmp_capabilities", deadline_s)
        return connection

    def _readable(self, connection: qmp.Qmp) -> None:
        if not connection.receive():
            with self._connecting:
                if self._qmp is connection:
                    self._disconnect()

    def _disconnect(self) -> None:
        if self._qmp:
            self._watcher.remove(self._qmp.fileno())
            self._qmp.close()
            self._qmp = None

    def _on_event(self, event: str) -> None:
        if event in EVENTS:
            self._ask_at_s = 0.0
            self._wake()
