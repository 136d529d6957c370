"""From the power loss of a host with 5 VMs until the last of them runs elsewhere: 3 hosts, 3 etcd members, real guests.
Aim: 4 s at the median of 10 rounds, 6 s at worst; 8 s in further rounds in which the leader of etcd dies with the host.

The guest is a boot sector that sleeps, so that the hosts are not busy with emulation. What counts is when its new host says in
etcd that its qemu executes. In detail, at the median: until the heartbeat is gone from etcd (`detection`), until the fence
stands, until the last VM is placed, until the last one runs. Run by `script/bench failover`.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from bench.boot_sector import DISK
from bench.cloud import NAME, Cloud, cloud, wait_for
from bench.line import finish, rounded
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.daemon import lab
from ucloud.daemon.cloud import find_cloud
from ucloud.model.host import Alive, Fence
from ucloud.model.record import decode
from ucloud.model.vm import Placement, Status
from ucloud.store.contract import Change
from ucloud.store.etcd import EtcdStore

ROUNDS, LEADER_ROUNDS, VMS = 10, 3, 5
AIM_S, WORST_S, LEADER_S = 4.0, 6.0, 8.0
STEPS = ("detection", "fence", "placing", "start")


def main() -> None:
    with cloud("--hosts", "3") as running, Client([running.url]) as client, tempfile.NamedTemporaryFile() as file:
        file.write(DISK)
        file.flush()
        _, action = client.upload_image("sleeper", Path(file.name))
        client.wait(action, timeout_s=60)
        plan = find_cloud(NAME)
        assert plan
        store = EtcdStore(plan.etcd_endpoints, SystemClock())
        try:
            rounds = [failover(running, client, store, number, with_leader=False) for number in range(ROUNDS)]
            led = [failover(running, client, store, ROUNDS + number, with_leader=True) for number in range(LEADER_ROUNDS)]
        finally:
            store.close()
    took_s, leader_s = [steps["start"] for steps in rounds], [steps["start"] for steps in led]
    detail = {
        "vms": VMS,
        "worst_s": rounded(max(took_s)),
        "until_s": {step: rounded(statistics.median(steps[step] for steps in rounds)) for step in STEPS},
        "with_etcds_leader_s": [rounded(value) for value in leader_s],
        "ours_s": [rounded(value) for value in took_s],
    }
    is_ok = statistics.median(took_s) <= AIM_S and max(took_s) <= WORST_S and max(leader_s) <= LEADER_S
    finish("failover", took_s, "s", is_ok, aim=AIM_S, detail=detail)


def failover(running: Cloud, client: Client, store: EtcdStore, number: int, *, with_leader: bool) -> Mapping[str, float]:
    """Seconds until each step was done."""
    leader = next(member.name for member in store.members() if member.leads).replace("etcd-", "h")
    followers = [host for host in ("h1", "h2", "h3") if host != leader]
    victim = leader if with_leader else followers[number % 2]
    ids = fill(client, victim, number)
    plan = find_cloud(NAME)
    assert plan
    host, target = client.host(victim)["id"], lab.find_target(plan, victim)
    survivors = EtcdStore([plan.etcd_endpoints[int(name[1:]) - 1] for name in plan.hosts if name != victim], SystemClock())
    try:
        watched = Watched(survivors, host, ids)
        began_s = time.monotonic()
        lab.act(lab.kill, target)
        wait_for(watched.is_over, "all VMs to run elsewhere")
    finally:
        survivors.close()
    lab.act(lab.boot, target)
    for id in ids:
        client.delete_vm(id)
    wait_for(lambda: not any(client.vms()), "the VMs to go", pause_s=0.2)
    wait_for(lambda: client.host(victim)["state"] == "up", f"{victim} to be back", pause_s=0.2)
    return {step: watched.at_s[step] - began_s for step in STEPS}


def fill(client: Client, host: str, number: int) -> set[str]:
    """Put VMs on this host that may move."""
    others = [other["name"] for other in client.hosts() if other["name"] != host]
    for other in others:
        client.set_host(other, enabled=False)
    made = [client.create_vm(f"vm-{number}-{i}", "sleeper", memory_mib=64) for i in range(VMS)]
    for _, action in made:
        assert client.wait(action, timeout_s=60)["state"] == "success"
    for other in others:
        client.set_host(other, enabled=True)
    return {vm["id"] for vm, _ in made}


class Watched:
    """What etcd tells of the death of a host, and when."""

    def __init__(self, store: EtcdStore, host: str, vms: set[str]) -> None:
        self.at_s: dict[str, float] = {}
        self._host, self._placed, self._runs, self._vms = host, set[str](), set[str](), vms
        self._woken = threading.Event()
        now = store.list(Alive.prefix).revision
        self._watch = store.watch(
            dict.fromkeys((Alive.prefix, Fence.prefix, Placement.prefix, Status.prefix), now), self._woken.set
        )

    def is_over(self) -> bool:
        self._woken.wait(0.1)
        self._woken.clear()
        for batch in self._watch.poll():
            for change in batch.changes:
                self._take(change)
        over = "start" in self.at_s
        if over:
            self._watch.close()
        return over

    def _take(self, change: Change) -> None:
        now_s = time.monotonic()
        match change.key.split("/"):
            case ["alive", self._host] if change.item is None:
                self.at_s.setdefault("detection", now_s)
            case ["fence", self._host] if change.item and decode(Fence, change.item.value)[0].phase == "fenced":
                self.at_s.setdefault("fence", now_s)
            case ["placement", vm] if vm in self._vms and change.item:
                if decode(Placement, change.item.value)[0].host not in ("", self._host):
                    self._placed.add(vm)
            case ["status", host, "vm", vm] if vm in self._vms and host != self._host and change.item:
                if decode(Status, change.item.value)[0].phase == "running":
                    self._runs.add(vm)
        for step, done in (("placing", self._placed), ("start", self._runs)):
            if done == self._vms:
                self.at_s.setdefault(step, now_s)


if __name__ == "__main__":
    main()
