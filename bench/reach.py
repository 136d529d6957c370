"""How long a new VM takes from `ucloud vm create` to the first ping of the machine's that it answers, against the boot of that
very guest: from just before its qemu is started until its first program says that it is up. Aim: at most 1.5 s more, for the
command line, API, scheduler, host, network, router, and the guest's way to its address.

The image is `tiny`. `announced_s`: of ours, until the router knew where. Run by `script/bench reach`.
"""

import json
import statistics
import subprocess
import time

from bench.boot import MEMORY_MIB, TINY_IMAGE, says_it_is_up
from bench.cloud import NAME, Cloud, cloud, wait_for
from bench.line import finish, rounded

VMS = 7
EXTRA_S = 1.5
PING = ["ping", "-n", "-i", "0.02", "-W", "1"]
DEADLINE_S = 120


def main() -> None:
    with cloud() as running:
        image = running.directory / "tiny.qcow2"
        subprocess.run([TINY_IMAGE, image], check=True, stdout=subprocess.DEVNULL)
        running.run("image", "upload", "tiny", str(image))
        accel = running.status()["hosts"][0]["accel"]
        announced, booted, answered = zip(*(reach(running, f"reach-{number}") for number in range(VMS)), strict=True)
    more_s = statistics.median(ours - theirs for ours, theirs in zip(answered, booted, strict=True))
    detail = {
        "accel": accel,
        "memory_mib": MEMORY_MIB,
        "more_than_theirs_s": rounded(more_s),
        "announced_s": rounded(statistics.median(announced)),
        "ours_s": [rounded(value) for value in answered],
        "theirs_s": [rounded(value) for value in booted],
    }
    finish("reach", answered, "s", more_s <= EXTRA_S, aim=EXTRA_S, theirs=booted, detail=detail)


def reach(running: Cloud, name: str) -> tuple[float, float, float]:
    """Seconds until the router knew where the VM is; of its guest's boot; and until it answered."""
    start_s = time.monotonic()
    creating = ["vm", "create", name, "--image", "tiny", "--memory", f"{MEMORY_MIB}M", "--no-wait", "-o", "json"]
    [address] = json.loads(running.run(*creating))["addresses"]
    wait_for(lambda: bool(running.logs()), f"the guest of {name}")
    guest_s = time.monotonic()
    wait_for(lambda: is_announced(address), f"the router to know {address}")
    announced_s = time.monotonic()
    wait_for(lambda: says_it_is_up(running.logs()), f"the first line of {name}")
    up_s = time.monotonic()
    await_answer(address)
    answered_s = time.monotonic()
    running.run("vm", "delete", name)
    return announced_s - start_s, up_s - guest_s, answered_s - start_s


def is_announced(address: str) -> bool:
    shown = subprocess.run(["ip", "-n", f"{NAME}-router", "-6", "route", "show", address], capture_output=True, check=True)
    return bool(shown.stdout)


def await_answer(address: str) -> None:
    with subprocess.Popen([*PING, "-w", str(DEADLINE_S), address], stdout=subprocess.PIPE, text=True) as ping:
        assert ping.stdout
        if not any("bytes from" in line for line in ping.stdout):
            raise TimeoutError(f"{address} did not answer within {DEADLINE_S} s")
        ping.kill()


if __name__ == "__main__":
    main()
