"""A hypervisor whose guests are rows in a table. Used by tests, by benchmarks with thousands of VMs and by the simulator.

It keeps the same contract as the real ones (tests/contract/test_hypervisor.py). What outlives a daemon is the `machine` that
is handed in: the same dict for the next driver object of this process, or a GuestDirectory when the process itself
is to be restarted. The methods below `close` are what a test does to the world: guests that crash, calls that fail.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from pathlib import Path

import msgspec

from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.driver.hypervisor.contract import LOG_BYTES, MOST_NICS, Guest, GuestNic, GuestSpec, Log

KEEP_BYTES = LOG_BYTES // 2


class Trace(msgspec.Struct, frozen=True):
    """All that is left of a VM on this machine. lost: so many bytes came before the log. cidata: what its guest was given."""

    guest: Guest | None
    log: bytes = b""
    lost: int = 0
    cidata: Mapping[str, bytes] = {}

    def written(self, data: bytes) -> "Trace":
        log = self.log + data
        return msgspec.structs.replace(self, log=log[-KEEP_BYTES:], lost=self.lost + max(0, len(log) - KEEP_BYTES))


Machine = MutableMapping[str, Trace]


class GuestDirectory(Machine):
    """A machine as one small JSON file for each VM, replaced as a whole: it survives its process, whenever that dies. A file
    is read again only when it was replaced, as hosts look at all their guests all the time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._read: dict[str, tuple[tuple[int, int], Trace]] = {}  # VM → which file it was, and what stood in it

    def __getitem__(self, vm: str) -> Trace:
        try:
            status = os.stat(f"{self._directory}/{vm}")
            file = (status.st_ino, status.st_mtime_ns)
            if vm not in self._read or self._read[vm][0] != file:
                self._read[vm] = (file, msgspec.json.decode((self._directory / vm).read_bytes(), type=Trace))
            return self._read[vm][1]
        except FileNotFoundError:
            self._read.pop(vm, None)
            raise KeyError(vm) from None

    def __setitem__(self, vm: str, trace: Trace) -> None:
        half_made = self._directory / f".{vm}.{os.getpid()}"  # the host daemon and who kills guests write at the same time
        half_made.write_bytes(msgspec.json.encode(trace))
        half_made.rename(self._directory / vm)

    def __delitem__(self, vm: str) -> None:
        (self._directory / vm).unlink()

    def __iter__(self) -> Iterator[str]:
        return (name for name in os.listdir(self._directory) if not name.startswith("."))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FakeHypervisor:
    name = "fake"
    accel = "fake"

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine: Machine = {} if machine is None else machine
        self.deaf: set[str] = set()  # VMs whose guests ignore the power button, whatever is typed, and unplugging
        self.full: set[str] = set()  # VMs for whose disks there is no room
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], None]] = []
        self._failing_before: Counter[str] = Counter()
        self._failing_after: Counter[str] = Counter()

    def actual(self, vms: Collection[str] | None = None) -> Mapping[str, Guest]:
        with self._call("actual"):
            guests = {vm: self._guest(vm) for vm in (self.machine if vms is None else vms)}
        return {vm: guest for vm, guest in guests.items() if guest}

    def traces(self) -> frozenset[str]:
        with self._call("traces"):
            return frozenset(self.machine)

    def start(self, spec: GuestSpec) -> None:
        with self._call("start"):
            if self._guest(spec.vm):
                raise Conflict(f"{spec.vm} has a guest already")
            macs = frozenset(nic.mac for nic in spec.nics)
            guest = Guest(vm=spec.vm, epoch=spec.epoch, boots=spec.boots, state="running", macs=macs, leased=spec.leased)
            line = f"fake guest {spec.name} epoch {spec.epoch} boots {spec.boots}\n".encode()
            self.machine[spec.vm] = msgspec.structs.replace(self._trace(spec.vm).written(line), guest=guest, cidata=spec.cidata)

    def attach(self, vm: str, nic: GuestNic) -> None:
        with self._call("attach"):
            guest = self._guest(vm)
            if guest is None:
                raise Conflict(f"{vm} has no guest")
            if nic.mac in guest.cut:
                guest = self._unplug(guest, nic.mac)
            if len(guest.macs | {nic.mac}) > MOST_NICS:
                raise Conflict(f"{vm} has {MOST_NICS} network interfaces already")
            self._change(guest, macs=guest.macs | {nic.mac})

    def detach(self, vm: str, mac: str) -> None:
        with self._call("detach"):
            guest = self._guest(vm)
            if guest and mac in guest.macs:
                self._unplug(guest, mac)

    def guard(self, vm: str) -> None:
        with self._call("guard"):
            if guest := self._guest(vm):
                self._change(guest, leased=True)

    def resume(self, vm: str) -> None:
        with self._call("resume"):
            guest = self._guest(vm)
            if guest and guest.state == "no-space" and vm not in self.full:
                self._change(guest, state="running")

    def power_down(self, vm: str) -> None:
        with self._call("power_down"):
            if vm in self.deaf or not self._power_off(vm):
                return
        self._wake()

    def kill(self, vm: str) -> None:
        with self._call("kill"):
            self._end(vm)

    def forget(self, vm: str) -> None:
        with self._call("forget"):
            if self._guest(vm):
                raise Conflict(f"{vm} has a guest")
            self.machine.pop(vm, None)

    def log(self, vm: str, after: int = 0, limit: int = LOG_BYTES) -> Log:
        with self._call("log"):
            if vm not in self.machine:
                raise NotFound(f"there is no log of {vm}")
            trace = self._trace(vm)
            end = trace.lost + len(trace.log)
            start = end + after if after < 0 else after if after <= end else 0
            start = max(start, trace.lost)
            return Log(trace.log[start - trace.lost :][:limit], start)

    def console(self, vm: str) -> "FakeConsole":
        with self._call("console"):
            if not (guest := self._guest(vm)):
                raise NotFound("the guest does not run")
            return FakeConsole(self, guest)

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    def trim(self) -> None:
        """Nothing to do: logs are bounded when they are written."""

    def close(self) -> None:
        self._wakes.clear()

    def fail_next(self, verb: str, times: int = 1, *, after: bool = False) -> None:
        """The next calls of `verb` raise Temporary: before they did anything, or `after` they did it (a lost answer)."""
        (self._failing_after if after else self._failing_before)[verb] += times

    def crash(self, vm: str) -> None:
        """The guest dies by itself."""
        with self._lock:
            self._end(vm)
        self._wake()

    def power_off(self, vm: str) -> None:
        """The guest shuts itself down."""
        with self._lock:
            self._power_off(vm)
        self._wake()

    def fill(self, vm: str) -> None:
        """Its guest writes to its disk, for which there is no room until it is in `full` no more."""
        self.full.add(vm)
        with self._lock:
            if guest := self._guest(vm):
                self._change(guest, state="no-space")
        self._wake()

    def cut(self, vm: str, mac: str) -> None:
        """Somebody takes a tap away."""
        with self._lock:
            guest = self._guest(vm)
            if guest and mac in guest.macs:
                self._change(guest, cut=guest.cut | {mac})

    def write(self, vm: str, data: bytes) -> None:
        """The guest writes to its serial line."""
        with self._lock:
            self.machine[vm] = self._trace(vm).written(data)

    def _call(self, verb: str) -> "_Call":
        return _Call(self._lock, verb, self._failing_before, self._failing_after)

    def _trace(self, vm: str) -> Trace:
        return self.machine.get(vm) or Trace(None)

    def _guest(self, vm: str) -> Guest | None:
        return self._trace(vm).guest

    def _end(self, vm: str) -> None:
        if self._guest(vm):
            self.machine[vm] = msgspec.structs.replace(self._trace(vm), guest=None, cidata={})

    def _unplug(self, guest: Guest, mac: str) -> Guest:
        if guest.vm in self.deaf:
            self._change(guest, cut=guest.cut | {mac})
            raise Temporary(f"the guest does not let go of {mac}")
        return self._change(guest, macs=guest.macs - {mac}, cut=guest.cut - {mac})

    def _change(self, guest: Guest, **changes: object) -> Guest:
        guest = msgspec.structs.replace(guest, **changes)
        self.machine[guest.vm] = msgspec.structs.replace(self._trace(guest.vm), guest=guest)
        return guest

    def _power_off(self, vm: str) -> bool:
        guest = self._guest(vm)
        if guest is None or guest.state == "powered-off":
            return False
        self._change(guest, state="powered-off")
        return True

    def _wake(self) -> None:
        for wake in list(self._wakes):
            wake()


class FakeConsole:
    """All guests echo what is typed, as a terminal does, unless their VM is `deaf`: then they take nothing."""

    def __init__(self, hypervisor: FakeHypervisor, guest: Guest) -> None:
        self._hypervisor, self._guest = hypervisor, guest

    def type(self, data: bytes) -> None:
        vm = self._guest.vm
        guest = self._hypervisor.actual().get(vm)
        mine = self._guest
        if guest is None or msgspec.structs.replace(guest, macs=mine.macs, cut=mine.cut, leased=mine.leased) != mine:
            raise NotFound("the guest is gone")
        if vm in self._hypervisor.deaf:
            raise Temporary("the guest takes nothing that is typed")
        self._hypervisor.write(vm, data)

    def close(self) -> None:
        """Nothing to let go of."""


class _Call:
    """One call at a time, failing when a test asked for it."""

    def __init__(self, lock: threading.Lock, verb: str, before: Counter[str], after: Counter[str]) -> None:
        self._lock, self._verb, self._before, self._after = lock, verb, before, after

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._before[self._verb] > 0:
            self._before[self._verb] -= 1
            self._lock.release()
            raise Temporary(f"{self._verb} was told to fail")

    def __exit__(self, kind: object, *_: object) -> None:
        failing = kind is None and self._after[self._verb] > 0
        if failing:
            self._after[self._verb] -= 1
        self._lock.release()
        if failing:
            raise Temporary(f"the answer of {self._verb} was told to get lost")
