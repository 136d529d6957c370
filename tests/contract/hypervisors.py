"""The machines that the hypervisor contract is tested on: a fake one, and this one with real qemu processes under emulation.

The real guests need no operating system: their disks hold a boot sector, a few bytes of 16-bit code.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ucloud.driver.hypervisor.contract import GuestDisk, GuestNic, GuestSpec, Hypervisor
from ucloud.driver.hypervisor.fake import FakeHypervisor, GuestDirectory, Machine
from ucloud.driver.hypervisor.qemu import QemuHypervisor

HELLO = b"hello from the guest\r\n"
CLONE_NEWNET = 0x40000000


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = 60) -> None:
    until_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until_s, f"waited {deadline_s} s in vain for: {what}"
        time.sleep(0.01)


class HypervisorWorld(Protocol):
    """A machine, seen from outside of the driver. Guests greet on their serial line and obey the power button."""

    def driver(self, host: str = "h1") -> Hypervisor:
        """A driver as a daemon makes it. The world closes it in the end."""

    def spec(self, vm: str, epoch: int = 1, boots: int = 1) -> GuestSpec: ...

    def refuse_next_start(self, driver: Hypervisor, spec: GuestSpec) -> None: ...

    def crash(self, driver: Hypervisor, vm: str) -> None:
        """The guest dies by itself."""

    def power_off(self, driver: Hypervisor, vm: str) -> None:
        """The guest is told by its user, from within, to shut down."""

    def flood(self, driver: Hypervisor, vm: str) -> GuestSpec:
        """A guest that writes to its serial line without end."""

    def echo(self, driver: Hypervisor, vm: str) -> GuestSpec:
        """A guest that runs, and echoes what is typed."""

    def fill(self, driver: Hypervisor, vm: str) -> None:
        """A guest that writes to its disk, for which there is no room."""

    def make_room(self, driver: Hypervisor, vm: str) -> None:
        """For all that this one wants to write."""

    def nic(self, number: int) -> GuestNic:
        """A network interface with a tap that nobody uses."""

    def keeper(self, driver: Hypervisor, vm: str, *nics: GuestNic) -> GuestSpec:
        """A guest that runs, and keeps its interfaces when it is asked to let go of them."""

    def loosen(self, driver: Hypervisor, vm: str) -> None:
        """From now on that one lets go of what it is asked for."""

    def cut(self, driver: Hypervisor, vm: str, nic: GuestNic) -> None:
        """Somebody removes its tap, and makes it anew."""

    def cidata(self, driver: Hypervisor, vm: str) -> Mapping[str, bytes]:
        """The files that its guest can read."""

    def program(self, host: str = "h1") -> str:
        """Python for a process of its own that makes `driver`, equal to what driver() makes."""


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


class FakeWorld:
    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._machines: dict[str, Machine] = {}

    def driver(self, host: str = "h1") -> FakeHypervisor:
        if self._directory:
            return FakeHypervisor(GuestDirectory(self._directory / host))
        return FakeHypervisor(self._machines.setdefault(host, {}))

    def spec(self, vm: str, epoch: int = 1, boots: int = 1) -> GuestSpec:
        return GuestSpec(vm=vm, name="guest", epoch=epoch, boots=boots, cpus=1, memory_mib=64)

    def refuse_next_start(self, driver: FakeHypervisor, spec: GuestSpec) -> None:
        driver.fail_next("start")

    def crash(self, driver: FakeHypervisor, vm: str) -> None:
        driver.crash(vm)

    def power_off(self, driver: FakeHypervisor, vm: str) -> None:
        driver.power_off(vm)

    def flood(self, driver: FakeHypervisor, vm: str) -> GuestSpec:
        driver.write(vm, b"x" * (4 << 20))
        return self.spec(vm)

    def echo(self, driver: FakeHypervisor, vm: str) -> GuestSpec:
        driver.start(spec := self.spec(vm))
        return spec

    def fill(self, driver: FakeHypervisor, vm: str) -> None:
        driver.start(self.spec(vm))
        driver.fill(vm)

    def make_room(self, driver: FakeHypervisor, vm: str) -> None:
        driver.full.remove(vm)

    def nic(self, number: int) -> GuestNic:
        return GuestNic(mac=mac(number), tap=f"ut{number}", mtu=1430)

    def keeper(self, driver: FakeHypervisor, vm: str, *nics: GuestNic) -> GuestSpec:
        driver.deaf.add(vm)
        driver.start(spec := msgspec.structs.replace(self.spec(vm), nics=nics))
        return spec

    def loosen(self, driver: FakeHypervisor, vm: str) -> None:
        driver.deaf.clear()

    def cut(self, driver: FakeHypervisor, vm: str, nic: GuestNic) -> None:
        driver.cut(vm, nic.mac)

    def cidata(self, driver: FakeHypervisor, vm: str) -> Mapping[str, bytes]:
        return driver.machine[vm].cidata

    def program(self, host: str = "h1") -> str:
        return (
            "from pathlib import Path\n"
            "from ucloud.driver.hypervisor.fake import *\n"
            f"driver = FakeHypervisor(GuestDirectory(Path({str(self._directory / host)!r})))\n"
        )

    def close(self) -> None: ...


# fmt: off
PRINT = (
    b"\xfa\x31\xc0\x8e\xd8\x8e\xd0"  # cli; ax = ds = ss = 0
    b"\xbc\x00\x7c\xfb"              # the stack is below 0x7c00; sti (the BIOS' clock wakes hlt)
    b"\xbe\x80\x7c\xba\xf8\x03"      # si = 0x7c80, where the text is; dx = COM1
    b"\xac\x84\xc0\x74\x03"          # next: al = [si++]; end of the text?
    b"\xee\xeb\xf8"                  # send it; to next
)
WAIT_FOR_BUTTON = (
    b"\xba\x02\x06\xb8\x00\x01\xef"  # PM1 enable (port 0x602): the power button may signal
    b"\xba\x00\x06"                  # dx = PM1 status (port 0x600)
    b"\xf4\xed\xf6\xc4\x01\x74\xf9"  # hlt; ax = status; bit 8, the button? else to hlt
)
POWER_OFF = b"\xba\x04\x06\xb8\x00\x20\xef\xf4"  # PM1 control (port 0x604) = S5, enabled: soft off; hlt
ECHO = (
    b"\xba\xfd\x03\xec\xa8\x01"  # dx = COM1's line status; al = it; has something come?
    b"\x74\xf8\xba\xf8\x03\xec"  # else again; dx = COM1; al = it
    b"\xee\xeb\xf1"              # send it back; again
)
WAIT_FOR_KEY = b"\xba\xfd\x03\xec\xa8\x01\x74\xf8\xba\xf8\x03\xec\xee"  # as ECHO, once
LISTEN = b"\xba\x28\x06\xb0\x02\xee"  # GPE0 enable (port 0x628): PCI hotplug may signal
LET_GO = (
    b"\x66\x31\xc9"              # look: ecx = 0, number of a bus that has a slot
    b"\xba\xd0\x0c\x66\x89\xc8\x66\xef"  # next: it is the bus (port 0xcd0) that we mean
    b"\xba\xc4\x0c\x66\xed"      # eax = what it is asked to let go of (port 0xcc4), by slots
    b"\xba\xc8\x0c\x66\xef"      # let go of that (port 0xcc8)
    b"\x41\x83\xf9\x10\x72\xe8"  # ecx + 1; below 16? then next
    b"\xf4\xeb\xe2"              # hlt; look again
)
WRITE = (
    b"\xb8\x00\x43\xb2\x80"            # ah = 0x43, write sectors; dl = the first disk
    b"\xbe\x60\x7c\xcd\x13"            # si = where it says which (`SECTORS`); do it
    b"\x66\x81\x06\x68\x7c\x80\0\0\0"  # 64 KiB further on the next time
    b"\xba\xf8\x03\xb0\x2e\xee"        # a dot to COM1
    b"\xf4\xeb\xe4"                    # hlt, until the BIOS' clock ticks; again
)
SECTORS = b"\x10\0\x01\0\0\x7c\0\0\x80\0\0\0\0\0\0\0"  # one, from 0x7c00, to the 128th
AGAIN = b"\xeb" + bytes([256 + 11 - (len(PRINT) + 2)])  # jmp to where PRINT sets si, its twelfth byte
# fmt: on


def boot_sector(code: bytes, text: bytes = HELLO) -> bytes:
    sector = code.ljust(0x80, b"\xf4") + text + b"\0"
    return sector.ljust(510, b"\0") + b"\x55\xaa"


PROGRAMS = {
    "obedient": boot_sector(PRINT + WAIT_FOR_BUTTON + POWER_OFF),
    "brief": boot_sector(PRINT + POWER_OFF),
    "talkative": boot_sector(PRINT + AGAIN),
    "echo": boot_sector(PRINT + ECHO),
    "writer": boot_sector((PRINT + WRITE).ljust(0x60, b"\xf4") + SECTORS),
    "keeper": boot_sector(PRINT + WAIT_FOR_KEY + LISTEN + WAIT_FOR_KEY + LET_GO),
}


class QemuWorld:
    """Everything is below one directory that guests' users may pass through."""

    def __init__(self) -> None:
        assert os.geteuid() == 0, "the tests of real guests must be run as root: they make users, mounts and control groups"
        self.directory = Path(tempfile.mkdtemp(prefix="ucloud-test-"))
        self.directory.chmod(0o711)
        self._drivers: list[QemuHypervisor] = []
        self.small: Path | None = None  # a file system for one guest's disk
        self._outside: int | None = None  # the network namespace that this process left
        for name, sector in PROGRAMS.items():
            raw = self.directory / f"{name}.raw"
            raw.write_bytes(sector.ljust(1 << 20, b"\0"))
            _qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(self.image(name)))

    def image(self, program: str) -> Path:
        return self.directory / f"{program}.qcow2"

    def run_dir(self, host: str = "h1") -> Path:
        directory = self.directory / "run" / host
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def driver(self, host: str = "h1") -> QemuHypervisor:
        driver = QemuHypervisor(self.run_dir(host), self.directory, accel="tcg")
        self._drivers.append(driver)
        return driver

    def spec(self, vm: str, epoch: int = 1, boots: int = 1, program: str = "obedient") -> GuestSpec:
        disk = self.directory / f"{vm}.disk"
        if not disk.exists():
            _qemu_img("create", "-f", "qcow2", "-b", self.image(program).name, "-F", "qcow2", str(disk))
        disks = (GuestDisk(name="root", path=str(disk)),)
        return GuestSpec(vm=vm, name="guest", epoch=epoch, boots=boots, cpus=1, memory_mib=16, disks=disks)

    def refuse_next_start(self, driver: Hypervisor, spec: GuestSpec) -> None:
        Path(spec.disks[0].path).unlink()

    def crash(self, driver: Hypervisor, vm: str) -> None:
        os.kill(self.process_of(vm), signal.SIGKILL)

    def power_off(self, driver: Hypervisor, vm: str) -> None:
        """By the next boot of a disk whose program does nothing else."""
        boots = driver.actual()[vm].boots
        driver.kill(vm)
        (self.directory / f"{vm}.disk").unlink()
        driver.start(self.spec(vm, boots=boots, program="brief"))

    def flood(self, driver: Hypervisor, vm: str) -> GuestSpec:
        spec = self.spec(vm, program="talkative")
        driver.start(spec)
        return spec

    def echo(self, driver: Hypervisor, vm: str) -> GuestSpec:
        driver.start(spec := self.spec(vm, program="echo"))
        wait_for(lambda: HELLO in driver.log(vm).data, "the guest to boot")
        return spec

    def fill(self, driver: Hypervisor, vm: str) -> None:
        """On a file system of 1 MiB."""
        self.small = self.directory / "small"
        self.small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "tmpfs", self.small], check=True)
        disk = self.small / f"{vm}.disk"
        _qemu_img("create", "-f", "qcow2", "-b", str(self.image("writer")), "-F", "qcow2", str(disk), "4M")
        driver.start(msgspec.structs.replace(self.spec(vm), disks=(GuestDisk(name="root", path=str(disk)),)))

    def make_room(self, driver: Hypervisor, vm: str) -> None:
        subprocess.run(["mount", "-o", "remount,size=16m", str(self.small)], check=True)

    def nic(self, number: int) -> GuestNic:
        """In a network namespace of this thread's own, which needs no tidying up."""
        if self._outside is None:
            self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        self.add_tap(nic := GuestNic(mac=mac(number), tap=f"ut{number}", mtu=1430))
        return nic

    def add_tap(self, nic: GuestNic) -> None:
        subprocess.run(["ip", "tuntap", "add", nic.tap, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", nic.tap, "up"], check=True)

    def cut(self, driver: Hypervisor, vm: str, nic: GuestNic) -> None:
        subprocess.run(["ip", "link", "delete", nic.tap], check=True)
        self.add_tap(nic)

    def keeper(self, driver: Hypervisor, vm: str, *nics: GuestNic) -> GuestSpec:
        driver.start(spec := msgspec.structs.replace(self.spec(vm, program="keeper"), nics=nics))
        wait_for(lambda: HELLO in driver.log(vm).data, "the guest to boot")
        return spec

    def loosen(self, driver: Hypervisor, vm: str) -> None:
        self.press_key(driver, vm)  # it listens ...
        self.press_key(driver, vm)  # ... and obeys

    def press_key(self, driver: Hypervisor, vm: str) -> None:
        end = driver.log(vm).end
        console = driver.console(vm)
        console.type(b"x")
        wait_for(lambda: driver.log(vm).end > end, "the key's echo")
        console.close()

    def is_plugged_in(self, nic: GuestNic) -> bool:
        """Whether somebody has its tap open."""
        shown = subprocess.run(["ip", "-o", "link", "show", nic.tap], check=True, capture_output=True, text=True)
        return "LOWER_UP" in shown.stdout

    def cidata(self, driver: Hypervisor, vm: str) -> Mapping[str, bytes]:
        descriptor = self.cidata_of(vm)
        if descriptor is None:
            return {}
        (disk := self.directory / f"{vm}.iso").write_bytes(descriptor.read_bytes())
        assert _output("blkid", "-p", "-s", "LABEL", "-o", "value", disk) == b"cidata\n"
        for names in ("-R", "-J"):  # Rock Ridge, which Linux reads, and Joliet, which others do
            files = _output("isoinfo", "-f", names, "-i", disk).decode().splitlines()
            told = {file.removeprefix("/"): _output("isoinfo", "-x", file, names, "-i", disk) for file in files}
        return told

    def cidata_of(self, vm: str) -> Path | None:
        """The descriptor of it that the guest's process has."""
        descriptors = Path(f"/proc/{self.process_of(vm)}/fd").iterdir()
        return next((entry for entry in descriptors if os.readlink(entry).startswith("/memfd:cidata")), None)

    def program(self, host: str = "h1") -> str:
        return (
            "from pathlib import Path\n"
            "from ucloud.driver.hypervisor.qemu import *\n"
            f"driver = QemuHypervisor(Path({str(self.run_dir(host))!r}), Path({str(self.directory)!r}), accel='tcg')\n"
        )

    def process_of(self, vm: str) -> int:
        """The one qemu that has this VM's disk in this world."""
        (pid,) = (pid for pid, command in _qemus() if str(self.directory / f"{vm}.disk") in command)
        return pid

    def close(self) -> None:
        try:
            for driver in self._drivers:
                driver.close()
            for run_dir in (self.directory / "run").glob("*"):
                self._forget_all(run_dir)
            if self.small:
                subprocess.run(["umount", self.small], check=True)
            assert not self.mounts()
        finally:  # even if the driver under test could not
            for pid, command in _qemus():
                if str(self.directory) in command:
                    os.kill(pid, signal.SIGKILL)
            for mount in self.mounts():
                subprocess.run(["umount", "--lazy", mount], check=False)
            shutil.rmtree(self.directory)
            if self._outside is not None:
                assert ctypes.CDLL(None).setns(self._outside, CLONE_NEWNET) == 0
                os.close(self._outside)

    def mounts(self) -> list[str]:
        points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
        return [point for point in points if point.startswith(str(self.directory))]

    def _forget_all(self, run_dir: Path) -> None:
        driver = QemuHypervisor(run_dir, self.directory, accel="tcg")
        for vm in driver.traces():
            driver.kill(vm)
            driver.forget(vm)
        driver.close()


def open_world(name: str) -> Iterator[HypervisorWorld]:
    with tempfile.TemporaryDirectory() as directory:
        world = {"fake": FakeWorld, "fake in a directory": lambda: FakeWorld(Path(directory)), "qemu": QemuWorld}[name]()
        try:
            yield world
        finally:
            world.close()


def _qemus() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            if command.startswith("qemu-system-x86_64\0"):
                yield int(entry.name), command


def _qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL)


def _output(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout
