"""From the end of `ucloud host join` until the new host has accepted a VM that is asked for at that moment. Aim: 2 s.

A cloud of one host by `ucloud up`; machines beside it join it one after the other, and are removed. Guests are pretended.
What counts is when the new host says in etcd that it begins with the VM. In detail: how long the command itself took, which
waits until the host is up. Run by `script/bench join`.
"""

import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.boot_sector import DISK
from bench.cloud import NAME, cloud, wait_for
from bench.line import finish, rounded
from bench.machine import listening, machine
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.daemon.cloud import Cloud, find_cloud
from ucloud.model.vm import Status
from ucloud.store.etcd import EtcdStore

ROUNDS = 5
AIM_S = 2.0
HOST, IMAGE = "edge", "sleeper"


def main() -> None:
    with (
        cloud("--hypervisor", "fake", "--network", "fake") as running,
        tempfile.TemporaryDirectory(prefix="ub-") as name,
        Client([running.url]) as client,
    ):
        plan = find_cloud(NAME)
        assert plan
        directory = Path(name)
        upload(client, directory)
        client.set_pool("default", shared=True, fence="same-kernel")
        with closing(EtcdStore(plan.etcd_endpoints, SystemClock())) as store, listening(plan, directory) as url:
            rounds = [join(plan, url, client, store, directory) for _ in range(ROUNDS)]
    commands_s, took_s = zip(*rounds, strict=True)
    detail = {
        "command_s": rounded(statistics.median(commands_s)),
        "worst_s": rounded(max(took_s)),
        "ours_s": [rounded(value) for value in took_s],
    }
    finish("join", took_s, "s", statistics.median(took_s) <= AIM_S, aim=AIM_S, detail=detail)


def upload(client: Client, directory: Path) -> None:
    file = directory / "disk"
    file.write_bytes(DISK)
    _, action = client.upload_image(IMAGE, file)
    assert client.wait(action, timeout_s=60)["state"] == "success"


def join(plan: Cloud, url: str, client: Client, store: EtcdStore, directory: Path) -> tuple[float, float]:
    """Seconds that the command took, and from its end until the VM was accepted. Nothing of the host is left afterwards."""
    with machine(plan, 7, directory) as new:
        wait_for(lambda: answers(url), f"the API at {url}", pause_s=0.1)
        began_s = time.monotonic()
        done = new.join(url, client.add_host(HOST)["token"])
        ended_s = time.monotonic()
        assert done.returncode == 0, done.stderr
        vm, _ = client.create_vm("first", IMAGE, memory_mib=16, host=HOST)
        accepted = Status.at(new.settings.host.id, "vm", vm["id"])
        wait_for(lambda: store.get(accepted) is not None, "the VM to be accepted", pause_s=0.005)
        accepted_s = time.monotonic()
        client.wait(client.delete_vm(vm["id"]), timeout_s=60)
    wait_for(lambda: client.host(HOST)["state"] in ("down", "fenced"), f"{HOST} to be silent", pause_s=0.1)
    id = client.remove_host(HOST)
    wait_for(lambda: all(host["id"] != id for host in client.hosts()), f"{HOST} to be gone", pause_s=0.1)
    return ended_s - began_s, accepted_s - ended_s


def answers(url: str) -> bool:
    with Client([url], patience_s=1.0) as api:
        return api.is_ready()


if __name__ == "__main__":
    main()
