"""A cloud of three hosts with real guests that count on their disks (counter.py), and what may happen to all of it. For
test_failover.py and the soak.

Its hosts have 4 s to be heard of, twice as long as in production, as a machine may be busy. While one host after the other
falls silent by intent, the third is left out: three within a minute are too many, and would be waited for.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.processes import answers
from tests.conftest import free_port
from tests.e2e import counter
from tests.e2e.conftest import DEADLINE_S, Traces, upload, wait_for
from tests.e2e.wide import Wide
from tests.integration.hail import Hail
from tests.integration.lab_cloud import VERBS, faults, keeping_logs
from tests.leftovers import cloud_name, ucloud
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.daemon import lab
from ucloud.store.etcd import EtcdStore

Vm = dict[str, Any]
MOVING, FAITHFUL = "moving", "faithful"  # the VMs; one of them never leaves its host, which both begin on
LEFT_OUT = "h3"
TTL_S = 4
ROUND_S = 8.0


class Counting:
    """A cloud with VMs that count on their disks."""

    def __init__(self, cloud: Wide, api: Client, store: EtcdStore) -> None:
        self.cloud, self.api, self.store = cloud, api, store
        self.traces = Traces(cloud, store)

    def create(self, name: str, ha: str | None = None, host: str | None = None) -> None:
        user_data, disk_mib = counter.USER_DATA, counter.DISK_MIB
        _, action = self.api.create_vm(name, "tiny", memory_mib=128, disk_mib=disk_mib, user_data=user_data, ha=ha, host=host)
        assert self.api.wait(action, DEADLINE_S)["state"] == "success"

    def lab(self, verb: Callable[[lab.Target], None], name: str) -> None:
        lab.act(verb, lab.find_target(self.cloud.plan, name))

    def vm(self, name: str) -> Vm:
        return self.api.vm(name)

    def runs(self, name: str) -> bool:
        return bool(self.vm(name)["phase"] == "running")

    def newest(self, name: str) -> counter.Record | None:
        return counter.last(self.lanes(name))

    def outlasts_a_lease(self, name: str) -> None:
        """That nothing happens takes time to see."""
        time.sleep(TTL_S + 1)
        before = self.newest(name)
        wait_for(lambda: self.newest(name) != before, f"{name} to go on writing", pause_s=0.5)

    def lanes(self, name: str) -> bytes:
        return counter.read(self.cloud.plan.pool_dir / "disks" / self.vm(name)["id"] / "root.qcow2")

    def guests(self, name: str) -> list[str]:
        return self.traces.processes(self.vm(name)["id"])

    def wait_until_it_counts(self, name: str, epoch: int = 1) -> None:
        """Under this epoch or a later one."""

        def counts() -> bool:
            newest = self.newest(name)
            return newest is not None and newest.epoch >= epoch

        wait_for(counts, f"{name} to write under epoch {epoch}", pause_s=0.5)

    def wait_until_it_moved(self, name: str, before: Vm) -> Vm:
        """And runs, and counts there."""

        def moved() -> Vm | None:
            vm = self.vm(name)
            return vm if vm["epoch"] > before["epoch"] and vm["host"] not in ("", before["host"]) else None

        wait_for(moved, f"{name} to move from {before['host']}")
        self.wait_until_it_counts(name, before["epoch"] + 1)
        return self.vm(name)

    def wait_until_up(self) -> None:
        well = {"up", "disabled"}
        wait_for(lambda: {host["state"] for host in self.api.hosts()} <= well, "all hosts to be up", pause_s=0.5)

    def check(self) -> None:
        """All is well, once all is healed."""
        self.wait_until_up()
        vms = [vm["name"] for vm in self.api.vms()]
        for name in vms:
            wait_for(partial(self.runs, name), f"{name} to run")
            self.wait_until_it_counts(name, self.vm(name)["epoch"])
        wait_for(
            lambda: {len(self.guests(name)) for name in vms} == {1}, "each VM to have one guest, also that was said to run"
        )
        assert {name: counter.findings(self.lanes(name)) for name in vms} == {name: [] for name in vms}


@contextmanager
def counting_cloud(letter: str, tiny_file: Path, logs: Path | None = None) -> Iterator[Counting]:
    """With the VMs MOVING and FAITHFUL, which count already. logs: where they go when something is found."""
    cloud = Wide(cloud_name(letter), Path(tempfile.mkdtemp(prefix="uct-")), free_port())
    place = ["--name", cloud.name, "--state", str(cloud.state_dir), "--port", str(cloud.port)]
    try:
        done = ucloud("up", *place, "--accel", "tcg", "--hosts", "3", "--etcd", "3", "--ttl", str(TTL_S), "--memory", "2G")
        assert done.returncode == 0, done.stderr
        store = EtcdStore(cloud.plan.etcd_endpoints, SystemClock())
        try:
            with keeping_logs(cloud.plan, logs), Client([f"unix:{cloud.plan.socket}"]) as api:
                upload(api, "tiny", tiny_file)
                counting = Counting(cloud, api, store)
                api.set_host(LEFT_OUT, enabled=False)
                counting.create(MOVING)
                counting.create(FAITHFUL, ha="never", host=counting.vm(MOVING)["host"])
                for name in (MOVING, FAITHFUL):
                    counting.wait_until_it_counts(name)
                yield counting
        finally:
            store.close()
    finally:
        done = ucloud("down", "--wipe", "--name", cloud.name)
    assert done.returncode == 0, done.stderr


def play(counting: Counting, seed: int, say: Callable[[str], None] = print) -> None:
    """A round of faults, for all hosts. Raises AssertionError with what was found."""
    counting.api.set_host(LEFT_OUT, enabled=True)
    hail = Hail([*faults(counting.cloud.plan)], f"failover {seed}", say)
    try:
        hail.fall(ROUND_S)
    finally:
        hail.end()
    counting.check()


def etcd_members_fail(counting: Counting, seed: str, times: int, say: Callable[[str], None] = print) -> None:
    """One after the other, in every way and for any time, every other time the one that leads: no guest dies and no host is
    fenced. The worst is a leader that stands still for longer than a lease, and goes on: it may end leases that were renewed
    with its successor."""
    chance = random.Random(seed)
    before = {name: (counting.vm(name)["epoch"], counting.guests(name)) for name in (MOVING, FAITHFUL)}
    endpoints = counting.cloud.plan.etcd_endpoints
    for number in range(times):
        is_worst, leads = number % 4 == 0, number % 2 == 0
        victim = leader(counting.store) if leads else chance.randrange(len(endpoints))
        ways = [(lab.freeze, lab.thaw)] if is_worst else VERBS
        fault, remedy = chance.choice(ways)
        say(f"{fault.__name__} etcd-{victim + 1}{', which leads' if leads else ''}")
        counting.lab(fault, f"etcd-{victim + 1}")
        if is_worst or chance.random() < 0.5:
            counting.outlasts_a_lease(MOVING)
        else:
            time.sleep(chance.uniform(0, 2))
        counting.lab(remedy, f"etcd-{victim + 1}")
        wait_for(partial(answers, endpoints[victim]), f"etcd-{victim + 1} to be back")
    counting.check()
    assert {name: (counting.vm(name)["epoch"], counting.guests(name)) for name in before} == before


def leader(store: EtcdStore) -> int:
    """Of etcd's members, counted from 0."""
    found: list[int] = wait_for(lambda: [n for n, member in enumerate(store.members()) if member.leads], "a leader of etcd")
    return found[0]
