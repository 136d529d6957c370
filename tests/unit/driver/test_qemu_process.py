"""Processes that are gone by the time they are to be ended."""

import subprocess

from ucloud.driver.hypervisor.qemu_command import Identity
from ucloud.driver.hypervisor.qemu_process import GuestProcess


def test_what_was_reaped_meanwhile_is_as_good_as_killed() -> None:
    child = subprocess.Popen(["true"])
    process = GuestProcess(Identity("vm-a", 1, 1), child.pid)
    child.wait()
    process.kill("a guest")
    assert process.has_ended()
