"""How long a VM takes from `ucloud vm create` to the first line of the guest's first program, against the bare qemu command
with the same devices on a disk that is there already. Aim: 1.1 times as long, plus 0.3 s for all the rest: command line, API,
scheduler, host, disk. (On a busy machine it does not hold: guests of ucloud have a smaller share of the processor than other
processes, the bare one has not. `before_guest_s` tells what is ours alone: until qemu is started.)

The image is `tiny`, built by script/tiny-image. Pairs are run in turn, each first every other time.
Run by `script/bench boot`.
"""

import os
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from bench.cloud import Cloud, cloud, wait_for
from bench.line import finish, rounded
from ucloud.driver.hypervisor import qmp
from ucloud.driver.hypervisor.qemu_command import Files, command_line
from ucloud.model.guest import GuestDisk, GuestSpec

PAIRS = 7
RATIO, EXTRA_S = 1.1, 0.3
MEMORY_MIB = 128
FIRST_LINE = b"ucloud tiny: up"
TINY_IMAGE = Path(__file__).parent.parent / "script" / "tiny-image"


def main() -> None:
    with cloud() as running:
        image = running.directory / "tiny.qcow2"
        subprocess.run([TINY_IMAGE, image], check=True, stdout=subprocess.DEVNULL)
        running.run("image", "upload", "tiny", str(image))
        accel = running.status()["hosts"][0]["accel"]
        ours, theirs, before_guest = [], [], []
        for number in range(PAIRS):
            if number % 2:
                theirs.append(boot_theirs(running.directory, image, accel))
            before_guest_s, took_s = boot_ours(running, f"boot-{number}")
            before_guest.append(before_guest_s)
            ours.append(took_s)
            if not number % 2:
                theirs.append(boot_theirs(running.directory, image, accel))
    allowed_s = RATIO * statistics.median(theirs) + EXTRA_S
    detail = {
        "accel": accel,
        "memory_mib": MEMORY_MIB,
        "allowed_s": rounded(allowed_s),
        "more_than_theirs_s": rounded(statistics.median(ours) - statistics.median(theirs)),
        "before_guest_s": rounded(statistics.median(before_guest)),
        "ours_s": [rounded(value) for value in ours],
        "theirs_s": [rounded(value) for value in theirs],
    }
    finish("boot", ours, "s", statistics.median(ours) <= allowed_s, aim=RATIO, theirs=theirs, detail=detail)


def boot_ours(running: Cloud, name: str) -> tuple[float, float]:
    """Seconds until its serial log was made, just before qemu is started, and until its first line."""
    start_s = time.monotonic()
    creating = running.start("vm", "create", name, "--image", "tiny", "--memory", f"{MEMORY_MIB}M", "--no-wait")
    wait_for(lambda: bool(running.logs()), f"the guest of {name}")
    before_guest_s = time.monotonic() - start_s
    wait_for(lambda: says_it_is_up(running.logs()), f"the first line of {name}")
    took_s = time.monotonic() - start_s
    if creating.wait(timeout=60):
        raise RuntimeError(f"vm create {name} failed")
    running.run("vm", "delete", name)
    return before_guest_s, took_s


def boot_theirs(directory: Path, image: Path, accel: str) -> float:
    disk, log = directory / "bare.qcow2", directory / "bare.log"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(disk)]
    subprocess.run(create, check=True)
    spec = GuestSpec(
        vm="bench",
        name="bench",
        epoch=1,
        boots=1,
        cpus=1,
        memory_mib=MEMORY_MIB,
        disks=(GuestDisk(name="root", path=str(disk)),),
    )
    with qmp.listen(directory / "qmp") as control, qmp.listen(directory / "console") as console, log.open("wb") as serial:
        files = Files(qmp=control.fileno(), console=console.fileno(), log=serial.fileno())
        command = command_line(spec, accel, files, direct=can_be_direct(disk))
        start_s = time.monotonic()
        guest = subprocess.Popen(command, pass_fds=(files.qmp, files.console, files.log))
        try:
            wait_for(lambda: says_it_is_up([log]), "the first line of the bare guest")
            return time.monotonic() - start_s
        finally:
            guest.kill()
            guest.wait()
            disk.unlink()


def says_it_is_up(logs: Iterable[Path]) -> bool:
    return any(FIRST_LINE in log.read_bytes() for log in logs)


def can_be_direct(disk: Path) -> bool:
    """As the driver asks: whether the file system lets qemu bypass the page cache."""
    try:
        os.close(os.open(disk, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
