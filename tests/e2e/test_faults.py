"""Daemons are killed while VMs are made and deleted: everything converges by itself, nothing is lost, twice or left."""

import os
import random
import signal

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import Traces, wait_for
from tests.e2e.test_vm import daemon_pid
from ucloud.client import Client

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.parametrize("kind", ["api", "control", "host"])
def test_daemon_killed_while_vms_come_and_go(
    cloud: RunningCloud, api: Client, traces: Traces, obedient: str, kind: str
) -> None:
    chance = random.Random(kind)
    ids = []
    for number in range(4):
        vm, _ = api.create_vm(f"{kind}-{number}", obedient, memory_mib=64)
        ids.append(vm["id"])
        if chance.random() < 0.5 or number == 3:
            os.kill(daemon_pid(cloud, kind), signal.SIGKILL)
    wait_for(lambda: [vm["phase"] for vm in api.vms()] == ["running"] * 4, "all to run")
    assert [vm["id"] for vm in api.vms()] == ids, "no request was carried out twice or lost"
    assert [len(traces.processes(id)) for id in ids] == [1] * 4
    for id in ids:
        api.delete_vm(id)
        if chance.random() < 0.5 or id == ids[-1]:
            os.kill(daemon_pid(cloud, kind), signal.SIGKILL)
    wait_for(lambda: not list(api.vms()), "all to be gone")
    wait_for(lambda: not any(map(traces.of, ids)), "nothing left of them, nor their names in the network's DNS")
