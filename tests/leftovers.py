"""Clouds that tests make for themselves, and what of them a killed run left behind.

A test cloud is named uct, the number of the process that made it in base 36, and a letter: so whose process is gone is a
leftover, and runs beside each other leave each other alone. `python -m tests.leftovers` (script/test) removes leftovers.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ucloud.driver.resolver.dnsmasq_process import DIRECTORY, environment_of

PREFIX = "uct"
SCRATCH = ("/tmp/uct-", "/tmp/ucloud-test-", "/tmp/pytest-of-")


def base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return base36(number // 36) + digits[number % 36] if number >= 36 else digits[number]


def cloud_name(letter: str) -> str:
    return f"{PREFIX}{base36(os.getpid())}{letter}"


def ucloud(*arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """The program, as users call it, on the code under test. No `UCLOUD_*` of whoever runs the tests reaches it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UCLOUD_")}
    command = [sys.executable, "-m", "ucloud.daemon.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)


def clouds_of_tests() -> Iterator[str]:
    states = Path("/var/lib").glob(f"ucloud-{PREFIX}*")
    spaces = Path("/run/netns").glob(f"{PREFIX}*-*")
    runs = Path("/run").glob(f"ucloud-{PREFIX}*")
    yield from sorted(
        {path.name.removeprefix("ucloud-") for path in (*states, *runs)} | {path.name.partition("-")[0] for path in spaces}
    )


def is_abandoned(name: str) -> bool:
    try:
        return not Path(f"/proc/{int(name.removeprefix(PREFIX)[:-1], 36)}").exists()
    except ValueError:
        return False  # not named by us


def remove_leftovers() -> None:
    for name in filter(is_abandoned, clouds_of_tests()):
        done = ucloud("down", "--wipe", "--name", name)
        print(f"removed what an earlier run left of the cloud {name}{done.stderr if done.returncode else ''}", file=sys.stderr)


def remove_scratch() -> None:
    """Processes, mounts, control groups and files of tests that made no cloud. Only where no other run is going on."""
    if any("pytest" in command for _, command in processes()):
        return
    for pid, command in processes():
        if any(sign in f"{working_directory(pid)} {network_directory(pid)} {command}" for sign in SCRATCH):
            os.kill(pid, signal.SIGKILL)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(SCRATCH)]):
        subprocess.run(["umount", "--lazy", mount], check=False)
    for top in Path("/sys/fs/cgroup").glob("**/ucloud"):
        for group, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # somebody lives there
                os.rmdir(group)
    for directory in Path("/tmp").iterdir():
        if str(directory).startswith(SCRATCH):
            shutil.rmtree(directory, ignore_errors=True)


def processes() -> Iterator[tuple[int, str]]:
    """All but this one and those that it comes from, with their command lines."""
    own, pid = set(), os.getpid()
    while pid:
        own.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(directory.name) not in own:
                yield int(directory.name), (directory / "cmdline").read_text(errors="replace")


def working_directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def network_directory(pid: int) -> str:
    """Of a resolver, which shows nothing of it elsewhere."""
    try:
        return environment_of(Path(f"/proc/{pid}")).get(DIRECTORY, "")
    except OSError:
        return ""


if __name__ == "__main__":
    remove_leftovers()
    remove_scratch()
