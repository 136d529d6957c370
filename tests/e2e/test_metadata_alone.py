"""The metadata service and a guest's owner need nothing but the host: neither control plane nor host daemon."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import Traces, wait_for
from tests.e2e.person import Person
from tests.e2e.test_vm import daemon_pid
from tests.leftovers import ucloud
from ucloud.client import Client

pytestmark = pytest.mark.usefixtures("clean")

CONTROL_PLANE = ("etcd-1", "api-1", "control-1")
ASK = "wget -q -O - http://metadata/ssh-keys; wget -q -O - http://metadata/latest/meta-data/instance-id"


def test_metadata_while_the_control_plane_is_dead_and_after_kills_during_the_boot(
    cloud: RunningCloud, api: Client, traces: Traces, tiny: str, tmp_path: Path
) -> None:
    owner = Person(tmp_path, cloud.url)
    key = owner.new_key("mine")
    vm, _ = api.create_vm("alone", tiny, memory_mib=128, keys=["mine"])
    for _ in range(2):  # once as soon as there is a guest, once while it boots
        wait_for(lambda: traces.processes(vm["id"]), "the guest's process")
        kill_host_daemon(cloud)
    wait_for(lambda: owner.ssh("alone", key, "true").returncode == 0, "the guest to boot")
    assert len(traces.processes(vm["id"])) == 1
    line = (tmp_path / "mine.pub").read_text()
    wait_for(lambda: owner.ssh("alone", key, ASK).stdout == f"{line}{vm['id']}", "the guest to know its owner")
    address = api.vm(vm["id"])["addresses"][0]
    try:
        for name in CONTROL_PLANE:
            assert ucloud("lab", "kill", name, "--name", cloud.name).returncode == 0
        alone = ssh(address, key, ASK)
        assert alone.stdout == f"{line}{vm['id']}", alone.stderr
    finally:
        for name in CONTROL_PLANE:
            assert ucloud("lab", "boot", name, "--name", cloud.name).returncode == 0
    wait_for(api.is_ready, "the control plane to be back")
    assert len(traces.processes(vm["id"])) == 1
    api.delete_vm(vm["id"])
    wait_for(lambda: not list(api.vms()), "the VM to be gone")
    api.delete_key("mine")


def kill_host_daemon(cloud: RunningCloud) -> None:
    before = daemon_pid(cloud, "host")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: daemon_pid(cloud, "host") != before, "another host daemon")


def ssh(address: str, key: Path, command: str) -> "subprocess.CompletedProcess[str]":
    unknown = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
    words = ["ssh", "-i", str(key), *unknown, "-o", "ConnectTimeout=60", f"root@{address}", command]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
