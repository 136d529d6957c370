"""Clouds that tests make for themselves, and what of them a killed run left behind.

A test cloud is named uct, the number of the process that made it in base 36, and a letter: so whose process is gone is a
leftover, and runs beside each other leave each other alone. `python -m tests.leftovers` (script/test) removes leftovers.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PREFIX = "uct"


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


def test_clouds() -> Iterator[str]:
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
    for name in filter(is_abandoned, test_clouds()):
        done = ucloud("down", "--wipe", "--name", name)
        print(f"removed what an earlier run left of the cloud {name}{done.stderr if done.returncode else ''}", file=sys.stderr)


if __name__ == "__main__":
    remove_leftovers()
