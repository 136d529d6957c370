"""How long a new VM takes from `ucloud vm create --key` to what a command says by `ucloud vm ssh`, against bare qemu on a disk
that is there already, until its guest's first program says that it is up. Aim: at most 3 s more, for all that `reach` measures,
the guest's keys, its ssh server, the login, and the start of two command lines.

The image is `tiny`. Pairs are run in turn, each first every other time. Run by `script/bench ssh`.
"""

import statistics
import subprocess
import time

from bench.boot import MEMORY_MIB, TINY_IMAGE, boot_theirs
from bench.cloud import Cloud, cloud
from bench.line import finish, rounded

PAIRS = 7
EXTRA_S = 3.0


def main() -> None:
    with cloud() as running:
        image, identity = running.directory / "tiny.qcow2", running.directory / "id"
        running.environment["HOME"] = str(running.directory)  # host keys are remembered there
        subprocess.run([TINY_IMAGE, image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", identity], check=True)
        running.run("image", "upload", "tiny", str(image))
        running.run("key", "add", "bench", "--file", f"{identity}.pub")
        accel = running.status()["hosts"][0]["accel"]
        created, ours, theirs = [], [], []
        for number in range(PAIRS):
            if number % 2:
                theirs.append(boot_theirs(running.directory, image, accel))
            created_s, took_s = log_in(running, f"ssh-{number}", str(identity))
            created.append(created_s)
            ours.append(took_s)
            if not number % 2:
                theirs.append(boot_theirs(running.directory, image, accel))
    more_s = statistics.median(ours) - statistics.median(theirs)
    detail = {
        "accel": accel,
        "memory_mib": MEMORY_MIB,
        "more_than_theirs_s": rounded(more_s),
        "created_s": rounded(statistics.median(created)),
        "ours_s": [rounded(value) for value in ours],
        "theirs_s": [rounded(value) for value in theirs],
    }
    finish("ssh", ours, "s", more_s <= EXTRA_S, aim=EXTRA_S, theirs=theirs, detail=detail)


def log_in(running: Cloud, name: str, identity: str) -> tuple[float, float]:
    """Seconds until `vm create` said that the VM runs, and until a command in it had said something."""
    start_s = time.monotonic()
    running.run("vm", "create", name, "--image", "tiny", "--memory", f"{MEMORY_MIB}M", "--key", "bench")
    created_s = time.monotonic() - start_s
    said = running.run("vm", "ssh", name, "--identity", identity, "--", "echo", "hello")
    took_s = time.monotonic() - start_s
    assert said == "hello\n", said
    running.run("vm", "delete", name)
    return created_s, took_s


if __name__ == "__main__":
    main()
