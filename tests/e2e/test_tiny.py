"""The image `tiny`, built and booted by qemu alone: what every other test with a real guest takes for granted."""

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

REPOSITORY = Path(__file__).parents[2]
UUID = "0f5d3c1e-5b0f-4c57-9d6e-5a1b6a2f7c11"
DEADLINE_S = 120  # emulated, on a machine that may do other things


class Guest:
    """A guest with this disk, as the `with` statement's life."""

    def __init__(self, disk: Path) -> None:
        self._qmp = disk.with_suffix(".qmp")
        self.console = b""
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg", "-cpu", "max"]
            + ["-smp", "1", "-m", "128", "-display", "none", "-serial", "stdio", "-qmp", f"unix:{self._qmp},server=on,wait=off"]
            + ["-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={disk}"]
            + ["-device", "virtio-blk-pci,drive=disk,bootindex=1", "-device", "virtio-rng-pci"]
            + ["-smbios", f"type=1,uuid={UUID}", "-smbios", "type=11,value=ucloud-epoch=7,value=ucloud-boots=3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, text: str) -> str:
        """What was on the console up to and with `text`, which is then taken from it."""
        assert self.process.stdout
        deadline_s = time.monotonic() + DEADLINE_S
        while text.encode() not in self.console:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline_s - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert more, f"no {text!r} on the console, but: {self.console.decode(errors='replace')}"
            self.console += more
        before, _, self.console = self.console.partition(text.encode())
        return before.decode(errors="replace") + text

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def open_shell(self) -> None:
        self.wait_for("press Enter")
        self.type("")
        self.wait_for("# ")

    def press_power_button(self) -> None:
        with socket.socket(socket.AF_UNIX) as qmp, qmp.makefile("rw") as lines:
            qmp.settimeout(DEADLINE_S)
            qmp.connect(str(self._qmp))
            for command in ("qmp_capabilities", "system_powerdown"):
                lines.write(f'{{"execute": "{command}"}}\n')
                lines.flush()
                while '"return"' not in lines.readline():
                    pass  # the greeting, or an event


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("tiny") / "tiny.qcow2"
    subprocess.run([REPOSITORY / "script/tiny-image", image], check=True)
    return image


@pytest.fixture
def guest(image: Path, tmp_path: Path) -> Iterator[Guest]:
    disk = tmp_path / "disk.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(disk), "100M"]
    subprocess.run(create, check=True)
    with Guest(disk) as guest:
        yield guest


def test_image_is_small(image: Path) -> None:
    assert image.stat().st_size < 40 * 1024 * 1024


def test_guest_says_what_it_is_writes_reboots_and_powers_off(guest: Guest, tmp_path: Path) -> None:
    guest.wait_for("ucloud tiny: up after ")
    said = guest.wait_for("ucloud tiny: ready")
    for line in (f"uuid {UUID}", "ucloud-epoch=7", "ucloud-boots=3", "cpus 1", "disk vda 100 MiB"):
        assert line in said.splitlines()
    guest.open_shell()
    guest.type("echo written | dd of=/dev/vda bs=1M seek=99 conv=fsync 2>/dev/null; echo wrote=$?")
    guest.wait_for("wrote=0")
    guest.type("reboot")
    guest.wait_for("ucloud tiny: up after ")
    guest.open_shell()
    guest.type("dd if=/dev/vda bs=1M skip=99 2>/dev/null | head -c 7 | tr a-z A-Z")
    guest.wait_for("WRITTEN")
    guest.type("poweroff")
    assert guest.process.wait(DEADLINE_S) == 0


def test_guest_heeds_the_power_button(guest: Guest) -> None:
    guest.wait_for("ucloud tiny: ready")
    guest.press_power_button()
    guest.wait_for("ucloud tiny: power button")
    assert guest.process.wait(DEADLINE_S) == 0
