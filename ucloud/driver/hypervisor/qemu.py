"""Guests as qemu processes, without libvirt. Made by the daemon's driver table, called by the host loop and its workers.

Of a VM there is, in `run_dir`/vm/<id> (root's alone): the sockets `qmp` and `console`, `log/` (serial_log.py), and `spared`, an
empty file, when its guest is not leased; and a control group (cgroup.py). The guest's process runs as a user of its own, which
can write nothing but its disks. It outlives the daemon: the next QemuHypervisor on the same run_dir finds it by looking
(qemu_process.py). Needs root, and the machine's mount namespace (`nsenter --net`, not `ip netns exec`: what a daemon mounts in
a namespace of its own goes with it).
"""

import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from ucloud.base.errors import Conflict, NotFound, NotYet, Temporary
from ucloud.driver import image_lock
from ucloud.driver.hypervisor import qemu_nics, qmp
from ucloud.driver.hypervisor.accel import working_accel
from ucloud.driver.hypervisor.cgroup import of_guests
from ucloud.driver.hypervisor.cidata import open_cidata
from ucloud.driver.hypervisor.contract import LOG_BYTES, Guest, GuestDisk, GuestNic, GuestSpec, Log
from ucloud.driver.hypervisor.qemu_command import Files, Identity, command_line, reason, uid
from ucloud.driver.hypervisor.qemu_console import QemuConsole
from ucloud.driver.hypervisor.qemu_guest import QemuGuest
from ucloud.driver.hypervisor.qemu_process import GuestProcess, find, launch
from ucloud.driver.hypervisor.reaper import SPARED
from ucloud.driver.hypervisor.serial_log import SerialLog
from ucloud.driver.hypervisor.tap import held_taps, open_tap
from ucloud.driver.hypervisor.watcher import Watcher

LOOK_S = 5.0  # how old the list of processes may be; exits are seen at once anyway
VM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
log = logging.getLogger(__name__)


class QemuHypervisor:
    name = "qemu"

    def __init__(
        self, run_dir: Path, state_dir: Path, *, accel: Literal["auto", "kvm", "tcg"] = "auto", probe_kernel: Path | None = None
    ) -> None:
        """run_dir: tells this host's guests from those of other hosts on the same kernel. state_dir: remembers if KVM works.
        probe_kernel: a Linux kernel to try KVM with when accel is `auto` (default: this machine's own)."""
        self._vms = run_dir.resolve() / "vm"
        self._vms.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.accel: str = working_accel(state_dir, probe_kernel) if accel == "auto" else accel
        self._groups = of_guests(run_dir)
        self._lock = threading.Lock()  # of the dict below
        self._looking = threading.Lock()  # a process is either launched and kept, or found: never both
        self._guests: dict[str, QemuGuest] = {}
        self._looked_s = float("-inf")
        self._wakes: list[Callable[[], None]] = []
        self._watcher = Watcher("qemu-watcher")
        self._consoles = Watcher("qemu-consoles")  # apart: a guest that writes without end must not delay it
        self._look()

    def actual(self, vms: Collection[str] | None = None) -> Mapping[str, Guest]:
        if time.monotonic() - self._looked_s > LOOK_S:
            self._look()
        with self._lock:
            guests = [self._guests[vm] for vm in (self._guests if vms is None else vms) if vm in self._guests]
        seen = [(guest.process, *guest.seen()) for guest in guests]
        held = held_taps(nic.tap for _, _, nics in seen for nic in nics.values())
        return {
            process.who.vm: Guest(
                vm=process.who.vm,
                epoch=process.who.epoch,
                boots=process.who.boots,
                state=state,
                macs=frozenset(nics),
                cut=frozenset(nic.mac for nic in nics.values() if nic.tap not in held),
                leased=not self._spared(process.who.vm).exists(),
            )
            for process, state, nics in seen
            if not process.has_ended()
        }

    def traces(self) -> frozenset[str]:
        with self._lock:
            running = frozenset(self._guests)
        return running | self._groups.guests() | {directory.name for directory in self._vms.iterdir()}

    def start(self, spec: GuestSpec) -> None:
        if self._guest(spec.vm):
            raise Conflict(f"{spec.vm} has a guest already")
        try:
            guest = self._launch(spec)
        except OSError as error:
            raise Temporary(f"{spec.vm} cannot be started: {error}") from error
        try:
            guest.started()
        except Temporary as error:
            self.kill(spec.vm)
            why = reason(self._complaints(spec.vm)) or error.message
            if image_lock.is_locked(why):
                raise NotYet(f"{spec.vm} cannot be started: {image_lock.words('its disk', why)}") from error
            raise Temporary(f"{spec.vm} cannot be started: {why}") from error

    def attach(self, vm: str, nic: GuestNic) -> None:
        guest = self._guest(vm)
        if guest is None:
            raise Conflict(f"{vm} has no guest")
        qemu_nics.attach(guest, nic)

    def detach(self, vm: str, mac: str) -> None:
        guest = self._guest(vm)
        if guest:
            qemu_nics.detach(guest, mac)

    def guard(self, vm: str) -> None:
        try:
            self._spared(vm).unlink(missing_ok=True)
        except OSError as error:
            raise Temporary(f"the guest of {vm} cannot be bound to this host's lease: {error}") from error

    def resume(self, vm: str) -> None:
        guest = self._guest(vm)
        if guest and guest.seen()[0] == "no-space":
            guest.call("cont")

    def power_down(self, vm: str) -> None:
        guest = self._guest(vm)
        if guest:
            guest.call("system_powerdown")

    def kill(self, vm: str) -> None:
        guest = self._guest(vm)
        if guest:
            guest.process.kill(f"the guest of {vm}")
            self._gone(guest)
        self._groups.kill(vm)
        self._groups.remove(vm)

    def forget(self, vm: str) -> None:
        if self._guest(vm):
            raise Conflict(f"{vm} has a guest")
        self._groups.remove(vm)
        try:
            self._log(vm).remove()
            if self._directory(vm).exists():
                shutil.rmtree(self._directory(vm))
        except OSError as error:
            raise Temporary(f"{vm} cannot be forgotten: {error}") from error

    def log(self, vm: str, after: int = 0, limit: int = LOG_BYTES) -> Log:
        try:
            return self._log(vm).read(after, limit)
        except FileNotFoundError:
            raise NotFound(f"there is no serial log of {vm}") from None
        except OSError as error:
            raise Temporary(f"the serial log of {vm} cannot be read: {error}") from error

    def console(self, vm: str) -> QemuConsole:
        if not self._guest(vm):
            raise NotFound("the guest does not run")
        return QemuConsole(self._directory(vm) / "console", self._consoles)

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    def trim(self) -> None:
        for directory in self._vms.iterdir():
            try:
                self._log(directory.name).trim()
            except OSError as error:
                log.warning("the serial log of %s cannot be trimmed: %s", directory.name, error)

    def close(self) -> None:
        self._wakes.clear()
        self._watcher.close()
        self._consoles.close()
        with self._lock:
            for guest in self._guests.values():
                guest.close()
            self._guests.clear()

    def _launch(self, spec: GuestSpec) -> QemuGuest:
        user = uid(spec.vm)
        directory = self._directory(spec.vm)
        directory.mkdir(mode=0o700, exist_ok=True)
        if spec.leased:
            self._spared(spec.vm).unlink(missing_ok=True)
        else:
            self._spared(spec.vm).touch()
        written = self._log(spec.vm)
        written.add()
        written.trim()
        for disk in spec.disks:
            _hand_over(disk, user)
        group = self._groups.add(spec.vm)
        with (
            contextlib.ExitStack() as opened,
            qmp.listen(directory / "qmp") as control,
            qmp.listen(directory / "console") as console,
            written.open() as serial,
            written.open_complaints() as complaints,
        ):
            taps = tuple(_opened_tap(nic, opened) for nic in spec.nics)
            cidata = _opened_cidata(spec.cidata, opened) if spec.cidata else None
            files = Files(qmp=control.fileno(), console=console.fileno(), log=serial.fileno(), taps=taps, cidata=cidata)
            command = command_line(spec, self.accel, files, direct=all(map(_can_be_direct, spec.disks)))
            with self._looking:
                child = launch(
                    command,
                    user=user,
                    directory=directory,
                    group=group,
                    inherited=files.inherited(),
                    complaints=complaints.fileno(),
                )
                who = Identity(spec.vm, spec.epoch, spec.boots)
                return self._keep(GuestProcess(who, child.pid, child))

    def _look(self) -> None:
        """Take in guests that this object did not start: those of a daemon before it."""
        with self._looking:
            with self._lock:
                known = {guest.process.pid for guest in self._guests.values() if not guest.process.has_ended()}
            for process in find(self._vms):
                if process.pid not in known:
                    self._keep(process)
            self._looked_s = time.monotonic()

    def _guest(self, vm: str) -> QemuGuest | None:
        """The VM's guest, if it has one that lives. Looks twice before it says no."""
        guest = self._known(vm)
        if guest is None:
            self._look()
            guest = self._known(vm)
        return guest

    def _known(self, vm: str) -> QemuGuest | None:
        with self._lock:
            guest = self._guests.get(vm)
        return guest if guest and not guest.process.has_ended() else None

    def _keep(self, process: GuestProcess) -> QemuGuest:
        guest = QemuGuest(process, self._directory(process.who.vm) / "qmp", self._watcher, self._wake)
        with self._lock:
            self._guests[process.who.vm] = guest
        self._watcher.add(process.fileno(), lambda: self._exited(guest))
        return guest

    def _exited(self, guest: QemuGuest) -> None:
        if guest.process.has_ended():  # else the watcher called once too often
            self._gone(guest)
            self._wake()

    def _gone(self, guest: QemuGuest) -> None:
        self._watcher.remove(guest.process.fileno())
        guest.close()
        with self._lock:
            if self._guests.get(guest.process.who.vm) is guest:
                del self._guests[guest.process.who.vm]

    def _wake(self) -> None:
        for wake in list(self._wakes):
            wake()

    def _complaints(self, vm: str) -> str:
        try:
            return self._log(vm).complaints()
        except OSError:
            return ""

    def _directory(self, vm: str) -> Path:
        assert VM.fullmatch(vm), vm
        return self._vms / vm

    def _spared(self, vm: str) -> Path:
        """Read by `deadman` too."""
        return self._directory(vm) / SPARED

    def _log(self, vm: str) -> SerialLog:
        return SerialLog(self._directory(vm) / "log")


def _opened_tap(nic: GuestNic, opened: contextlib.ExitStack) -> int:
    tap = open_tap(nic.tap)
    opened.callback(os.close, tap)
    return tap


def _opened_cidata(files: Mapping[str, bytes], opened: contextlib.ExitStack) -> int:
    descriptor = open_cidata(files)
    opened.callback(os.close, descriptor)
    return descriptor


def _hand_over(disk: GuestDisk, user: int) -> None:
    """Make the disk (not what backs it) the guest's own."""
    descriptor = os.open(disk.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, user, user)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _can_be_direct(disk: GuestDisk) -> bool:
    """Whether the file system of this disk lets qemu bypass the page cache."""
    try:
        os.close(os.open(disk.path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True
