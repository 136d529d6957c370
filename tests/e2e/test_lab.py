"""Power loss of a host with a real guest: nothing of it goes on, and after the boot the VM runs again."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import Traces, wait_for
from tests.leftovers import ucloud
from ucloud.client import Client

pytestmark = pytest.mark.usefixtures("clean")


def test_a_guest_dies_with_its_host_and_runs_again(cloud: RunningCloud, api: Client, traces: Traces, obedient: str) -> None:
    vm, action = api.create_vm("powerless", obedient, memory_mib=64)
    assert api.wait(action, 300)["state"] == "success"
    wait_for(lambda: b"hello" in api.vm_log(vm["id"])[0], "the guest to greet")
    try:
        killed = ucloud("lab", "kill", "h1", "--name", cloud.name)
        assert killed.returncode == 0, killed.stderr
        assert traces.processes(vm["id"]) == []
        assert traces.mounts(vm["id"]) == []
        assert not (cloud.state_dir / "run" / "h1").exists()
        assert list(Path("/sys/fs/cgroup").glob(f"**/{vm['id']}")) == []
        inside = subprocess.run(["ip", "netns", "pids", f"{cloud.name}-h1"], capture_output=True, text=True, check=True)
        assert inside.stdout == ""
    finally:
        booted = ucloud("lab", "boot", "h1", "--name", cloud.name)
    assert booted.returncode == 0, booted.stderr
    wait_for(lambda: traces.processes(vm["id"]), "the guest to run again")
    wait_for(lambda: api.vm(vm["id"])["phase"] == "running", "the VM to be known to run")
    assert len(traces.processes(vm["id"])) == 1
