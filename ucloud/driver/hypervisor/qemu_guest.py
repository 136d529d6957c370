"""One running guest as the driver sees it: its process, its QMP connection, and what qemu last told of it.

Called by qemu.py. State and network interfaces are asked once and again after every event, so an idle guest costs nothing. A
qemu that does not answer is as it was: one stuck guest must not hide the others.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor import qmp
from ucloud.driver.hypervisor.contract import GuestState
from ucloud.driver.hypervisor.qemu_command import PluggedNic, plugged
from ucloud.driver.hypervisor.qemu_process import GuestProcess
from ucloud.driver.hypervisor.watcher import Watcher

START_S = 30.0
STATE_S = 1.0
ASK_AGAIN_S = 5.0
DEVICES = "/machine/peripheral"  # in qemu's tree of objects: those that were given an id
UNPLUGGED = "DEVICE_DELETED"
EVENTS = frozenset({"SHUTDOWN", "STOP", "RESUME", "RESET", "GUEST_PANICKED", UNPLUGGED})
STATES: dict[str, GuestState] = {"running": "running", "shutdown": "powered-off", "io-error": "no-space"}  # others: paused


class Status(msgspec.Struct, frozen=True):
    """QMP's answer to query-status, the part that we read."""

    status: str


class Property(msgspec.Struct, frozen=True):
    """QMP's answer to qom-list, the part that we read."""

    name: str


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
        self._nics: Mapping[str, PluggedNic] = {}
        self._ask_at_s = 0.0
        self._unplugged = threading.Event()

    def started(self) -> None:
        """Wait until it executes. Raises Temporary when it does not."""
        self._look(START_S)
        if self._state == "paused":
            raise Temporary("qemu does not execute the guest")

    def seen(self) -> tuple[GuestState, Mapping[str, PluggedNic]]:
        """Its state and its network interfaces, by MAC, as qemu last told."""
        if time.monotonic() >= self._ask_at_s and self._asking.acquire(blocking=False):
            try:
                with contextlib.suppress(Temporary):
                    self._ask(STATE_S)
            finally:
                self._asking.release()
        return self._state, self._nics

    def nics(self) -> Mapping[str, PluggedNic]:
        """Its network interfaces now. Raises Temporary."""
        self._look(qmp.CALL_S)
        return self._nics

    def wait_for_unplugging(self, mac: str, wait_s: float) -> bool:
        """Whether it has no such interface, at once or within this time. Raises Temporary."""
        until_s = time.monotonic() + wait_s
        while True:
            self._unplugged.clear()  # before looking, so that an event meanwhile is not missed
            if mac not in self.nics():
                return True
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self._unplugged.wait(left_s):
                return False

    def call(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline_s: float = qmp.CALL_S,
        descriptors: Sequence[int] = (),
    ) -> Any:
        connection = self._connected(deadline_s)
        return connection.call(command, arguments, deadline_s=deadline_s, descriptors=descriptors)

    def _look(self, deadline_s: float) -> None:
        with self._asking:
            self._ask(deadline_s)

    def _ask(self, deadline_s: float) -> None:
        self._ask_at_s = float("inf")  # before asking, so that an event meanwhile makes us ask again
        try:
            status = msgspec.convert(self.call("query-status", deadline_s=deadline_s), Status)
            devices = msgspec.convert(self.call("qom-list", {"path": DEVICES}, deadline_s=deadline_s), list[Property])
        except (Temporary, msgspec.ValidationError) as error:
            self._ask_at_s = time.monotonic() + ASK_AGAIN_S
            if isinstance(error, Temporary):
                raise
            raise Temporary(f"qemu answers nonsense: {error}") from error
        self._state = STATES.get(status.status, "paused")
        self._nics = {nic.mac: nic for device in devices if (nic := plugged(device.name))}

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
        connection.call("qmp_capabilities", deadline_s=deadline_s)
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
            if event == UNPLUGGED:
                self._unplugged.set()
            self._wake()
