"""The serial line of a real guest, by the command line on terminals: as people use it, and as daemons die under it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import wait_for
from tests.e2e.test_vm import daemon_pid, run, show
from tests.unit.cli.terminals import DEADLINE_S, ROOT, Terminal
from ucloud.client import Client

pytestmark = pytest.mark.usefixtures("clean")


def terminal(cloud: RunningCloud, *arguments: str) -> Terminal:
    return Terminal("--api", cloud.url, "vm", *arguments)


def test_a_shell_on_the_serial_line(cloud: RunningCloud, api: Client, tiny: str) -> None:
    """By a script; then two look on, one types; the window's size is told; daemons die and the guest is reset meanwhile."""
    run(cloud, "vm", "create", "con", "--image", tiny, "--memory", "128M")
    wait_for(lambda: b"press Enter" in api.vm_log("con")[0], "the guest to boot")
    assert b"42-times" in script(cloud, b"\recho $((6 * 7))-times\r").stdout
    with terminal(cloud, "console", "con") as one, terminal(cloud, "console", "con", "--read-only") as other:
        one.until("# ")
        one.type(b"echo $((7 * 7))-times\r")
        other.until("49-times")
        one.type(b"\x1dr")
        one.until("stty rows 33 cols 111")
        one.type(b"stty size | tr 0-9 a-j\r")
        one.until("dd bbb")

        os.kill(daemon_pid(cloud, "host"), signal.SIGKILL)
        one.until("connected again")
        one.type(b"echo host $((20 + 3))\r")
        other.until("host 23")
        os.kill(daemon_pid(cloud, "api"), signal.SIGKILL)
        one.until("connected again", times=2)
        one.type(b"echo api $((20 + 3))\r")
        other.until("api 23")

        run(cloud, "vm", "reset", "con")
        one.until(f"the guest runs (boot {show(cloud, 'con')['boots']})")
        one.until("press Enter", times=2)
        one.type(b"\r")
        one.type(b"poweroff\r")
        other.until("Power down")
        other.until("[the guest does not run]")
        for screen in (one, other):
            screen.type(b"\x1d")
            assert screen.ends() == 0
    assert b"bytes are gone" not in one.seen


def script(cloud: RunningCloud, typed: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ucloud.daemon.main", "--api", cloud.url, "vm", "console", "con", "--leave-after", "10"]
    return subprocess.run(command, input=typed, capture_output=True, timeout=DEADLINE_S, cwd=ROOT, check=True)


def test_a_log_is_followed_through_a_reboot(cloud: RunningCloud, api: Client, obedient: str) -> None:
    run(cloud, "vm", "create", "fol", "--image", obedient, "--memory", "64M")
    with terminal(cloud, "log", "-f", "fol") as screen:
        screen.until("hello from the guest")
        os.kill(daemon_pid(cloud, "host"), signal.SIGKILL)
        run(cloud, "vm", "reset", "fol")
        screen.until("hello from the guest", times=2)
        screen.signal(signal.SIGINT)
        assert screen.ends() == 0
        assert screen.seen.count(b"hello from the guest") == 2
