"""Whether KVM can be used here. Called by qemu.py once, when it is not told.

That /dev/kvm exists proves nothing: on some machines (nested ones, most often) it opens, firmware runs, and a Linux guest
hangs or makes qemu abort. So the question is put to the thing itself: a real Linux kernel, under a guest's own user, has to
get as far as running a process. A working KVM needs less than a second for that. The answer is kept until the machine
boots again, or qemu, the kernel or the device change.
"""

import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec

from ucloud.driver.hypervisor.qemu_command import BINARY, MACHINE, SANDBOX, uid
from ucloud.driver.hypervisor.qemu_process import KVM, launch

PROBE_S = 10.0
LINE = b"ucloud: user space runs\n"
log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """premises: what the answer depends on."""

    accel: str
    reason: str
    premises: list[str]


def working_accel(state_dir: Path, kernel: Path | None) -> str:
    """kernel: the Linux kernel to try (default: the one that this machine itself runs)."""
    kernel = kernel or Path("/boot") / f"vmlinuz-{platform.release()}"
    premises = _premises(kernel)
    file = state_dir / "accel.json"
    answer = _read(file)
    if answer is None or answer.premises != premises:
        accel, reason = _ask(kernel)
        answer = Answer(accel, reason, premises)
        state_dir.mkdir(parents=True, exist_ok=True)
        half_made = file.with_suffix(".new")
        half_made.write_bytes(msgspec.json.encode(answer))
        half_made.rename(file)
    log.info("acceleration: %s (%s)", answer.accel, answer.reason)
    return answer.accel


def boots_linux(accel: str, kernel: Path, deadline_s: float = PROBE_S) -> tuple[bool, str]:
    """Whether a guest with this accelerator gets from this kernel to a running process, and the last line it wrote."""
    user = uid("probe")
    with tempfile.TemporaryDirectory(prefix="ucloud-probe-") as name, tempfile.TemporaryFile() as output:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copyfile(kernel, directory / "kernel")
        (directory / "initrd").write_bytes(_initrd())
        command = [
            *(BINARY, "-machine", MACHINE, "-accel", accel, "-cpu", "host" if accel == "kvm" else "max"),
            *("-m", "256M", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-sandbox", SANDBOX, "-serial", "stdio", "-append", "console=ttyS0 panic=-1"),
            *("-kernel", f"{name}/kernel", "-initrd", f"{name}/initrd"),
        ]
        process = launch(command, user=user, directory=directory, group=None, inherited=(), complaints=output.fileno())
        try:
            ok = _says(process, output.fileno(), LINE.strip(), deadline_s)
            return ok, _last_line(output.fileno())
        finally:
            process.kill()
            process.wait()


def _ask(kernel: Path) -> tuple[str, str]:
    if not KVM.exists():
        return "tcg", f"there is no {KVM}"
    if not kernel.exists():
        return "tcg", f"KVM cannot be tried, there is no kernel {kernel}"
    ok, line = boots_linux("kvm", kernel)
    if ok:
        return "kvm", "a Linux guest boots with it"
    return "tcg", f"{KVM} exists, but no Linux guest boots with it within {PROBE_S:.0f} s: {line or 'it says nothing'}"


def _premises(kernel: Path) -> list[str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    files = [KVM, kernel, Path(shutil.which(BINARY) or BINARY)]
    return [boot, *(f"{file} {file.stat().st_mode:o} {file.stat().st_mtime_ns}" for file in files if file.exists())]


def _read(file: Path) -> Answer | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Answer)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _says(process: subprocess.Popen[bytes], output: int, line: bytes, deadline_s: float) -> bool:
    until_s = time.monotonic() + deadline_s
    while time.monotonic() < until_s:
        ended = process.poll() is not None
        if line in os.pread(output, 1 << 20, 0):
            return True
        if ended:
            return False
        time.sleep(0.02)
    return False


def _last_line(output: int) -> str:
    lines = os.pread(output, 1 << 20, 0).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _initrd() -> bytes:
    """A cpio archive (newc) with one file, /init."""
    return _cpio("init", 0o100755, _init()) + _cpio("TRAILER!!!", 0, b"")


def _cpio(name: str, mode: int, data: bytes) -> bytes:
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return b"".join(part + bytes(-len(part) % 4) for part in (header, data))


def _init() -> bytes:
    """A static x86-64 ELF program that writes LINE to its standard output and then waits to be killed."""
    base, headers = 0x400000, 64 + 56
    before = b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00"  # mov eax, 1 (write); mov edi, 1 (standard output)
    after = (
        b"\xba" + len(LINE).to_bytes(4, "little")  # mov edx, its length
        + b"\x0f\x05"  # syscall
        + b"\xb8\x22\x00\x00\x00\x0f\x05"  # mov eax, 34 (pause); syscall
    )  # fmt: skip
    code = before + b"\x48\x8d\x35" + len(after).to_bytes(4, "little") + after + LINE  # lea rsi, [rip + after] (LINE)
    size = (headers + len(code)).to_bytes(8, "little")
    entry, start = (base + headers).to_bytes(8, "little"), base.to_bytes(8, "little")
    elf = (
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little endian
        + b"\x02\x00\x3e\x00\x01\x00\x00\x00"  # an executable for x86-64, version 1
        + entry
        + (64).to_bytes(8, "little")  # program headers begin after this header
        + bytes(8 + 4)  # no section headers, no flags
        + b"\x40\x00\x38\x00\x01\x00\x40\x00\x00\x00\x00\x00"  # sizes; one program header
    )
    segment = b"\x01\x00\x00\x00\x05\x00\x00\x00" + bytes(8) + start + start + size + size + (4096).to_bytes(8, "little")
    return elf + segment + code
