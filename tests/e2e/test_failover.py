"""Hosts die, stand still and lose their network under real guests, which write to their disks who they are: their VMs run
elsewhere, and never twice (counter.py reads that from the disks). Pools that are full, and etcd without a majority, cost nobody
but whom they must.

One cloud and two VMs for all tests, of which each leaves everything healed. How fast it is is measured by bench/failover.py.
"""

import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.contract.hypervisors import PROGRAMS
from tests.e2e import counter
from tests.e2e.conftest import DEADLINE_S, wait_for
from tests.e2e.counting import FAITHFUL, MOVING, Counting, counting_cloud, etcd_members_fail, play
from ucloud.daemon import lab

KILLERS = [partial(lab.freeze_only, kind) for kind in ("host", "deadman", "lease")]
SEEDS = (1, 2, 3, 4, random.SystemRandom().randrange(10**6))
pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def counting(no_leftovers: None, tiny_file: Path) -> Iterator[Counting]:
    with counting_cloud("f", tiny_file) as found:
        yield found


@pytest.fixture(scope="module")
def own_pool(counting: Counting) -> Iterator[Path]:
    """Each host's own, with the image `writer`. The directory is a file system of its own."""
    path = Path(tempfile.mkdtemp(prefix="uct-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=711", "tmpfs", path], check=True)
    try:
        counting.api.create_pool("own", str(path))
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(PROGRAMS["writer"].ljust(1 << 20, b"\0"))
            _, action = counting.api.upload_image("writer", Path(file.name), "own")
        assert counting.api.wait(action, DEADLINE_S)["state"] == "success"
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


def create_writer(counting: Counting, name: str) -> dict[str, str]:
    """It fills a disk of 4 MiB, within seconds, and writes a dot to its log for each attempt."""
    vm, _ = counting.api.create_vm(name, "writer", memory_mib=16, disk_mib=4)
    return vm


def delete(counting: Counting, *names: str) -> None:
    for name in names:
        counting.api.delete_vm(name)
    wait_for(lambda: len(list(counting.api.vms())) == 2, f"the end of {names}")


def test_vms_of_a_host_that_is_cut_off_run_elsewhere_and_never_twice(counting: Counting) -> None:
    """But who may not move waits for it."""
    before, faithful = counting.vm(MOVING), counting.vm(FAITHFUL)
    assert before["host"] == faithful["host"]
    counting.lab(lab.cut, before["host"])
    try:
        after = counting.wait_until_it_moved(MOVING, before)
        assert counter.findings(counting.lanes(MOVING)) == []
        assert {before["epoch"], after["epoch"]} <= {*counter.epochs(counting.lanes(MOVING))}, "it is the same disk"
        wait_for(lambda: counting.vm(FAITHFUL)["epoch"] > faithful["epoch"], "what its host had begun to be void")
        assert counting.guests(FAITHFUL) == []
    finally:
        counting.lab(lab.heal, before["host"])
    counting.check()
    assert counting.vm(MOVING)["host"] != before["host"], "it does not go back"
    assert counting.vm(FAITHFUL)["host"] == before["host"]


def test_a_host_without_power_loses_its_vms_unless_disarmed_and_is_used_again(counting: Counting) -> None:
    api, before = counting.api, counting.vm(MOVING)
    api.arm(False, "cables are changed")
    counting.lab(lab.kill, before["host"])
    try:
        wait_for(lambda: "cables are changed" in str(api.cluster()["findings"]), "somebody to say why nothing moves")
        assert counting.vm(MOVING)["epoch"] == before["epoch"]
        api.arm()
        counting.wait_until_it_moved(MOVING, before)
    finally:
        api.arm()
        counting.lab(lab.boot, before["host"])
    counting.check()
    _, action = api.create_vm("back", "tiny", memory_mib=128, host=before["host"])
    assert api.wait(action, DEADLINE_S)["state"] == "success"
    assert api.wait(api.delete_vm("back"), DEADLINE_S)["state"] == "success"


def test_host_daemon_and_deadman_that_stand_still_cost_no_guest(counting: Counting) -> None:
    """The lease is renewed. The daemon is missed only when that has been silent for longer than a lease."""
    before, guests = counting.vm(MOVING), counting.guests(MOVING)
    for kind in ("host", "deadman"):
        counting.lab(partial(lab.freeze_only, kind), before["host"])
    try:
        wait_for(lambda: counting.api.host(before["host"])["state"] == "degraded", "the host daemon to be missed")
        newest = counting.newest(MOVING)
        wait_for(lambda: counting.newest(MOVING) != newest, "the guest to go on writing", pause_s=0.5)
    finally:
        counting.lab(lab.thaw, before["host"])
    counting.check()
    assert (counting.vm(MOVING)["epoch"], counting.guests(MOVING)) == (before["epoch"], guests)


@pytest.mark.parametrize("freezes", [KILLERS, [lab.freeze]], ids=["its killers", "its host"])
def test_a_guest_that_nobody_is_left_to_kill_keeps_the_next_one_out(
    counting: Counting, freezes: list[Callable[[lab.Target], None]]
) -> None:
    """Also one that stands still itself: what is left is qemu's lock on the disk, until somebody wakes up to kill."""
    before, guests = counting.vm(MOVING), counting.guests(MOVING)
    for freeze in freezes:
        counting.lab(freeze, before["host"])
    try:
        wait_for(lambda: counting.vm(MOVING)["host"] not in ("", before["host"]), "it to be given away")
        wait_for(lambda: "locked" in str(counting.vm(MOVING)["error"]), "its new host to find its disk locked")
        assert counting.guests(MOVING) == guests
    finally:
        counting.lab(lab.thaw, before["host"])
    counting.wait_until_it_moved(MOVING, before)
    counting.check()


def test_the_loss_of_an_etcd_member_costs_no_guest(counting: Counting) -> None:
    etcd_members_fail(counting, "etcd", times=3)


def test_a_guest_whose_pool_is_full_stands_still_until_there_is_room(counting: Counting, own_pool: Path) -> None:
    """And who is to be started there waits. Nobody else notices."""
    api, others = counting.api, [counting.guests(name) for name in (MOVING, FAITHFUL)]
    subprocess.run(["mount", "-o", "remount,size=2m", own_pool], check=True)
    writing = create_writer(counting, "writing")["id"]
    wait_for(lambda: "there is no room for what it writes to its disk (pool own)" in api.vm("writing")["error"], "it to stop")
    guests = counting.guests("writing")
    assert counting.runs("writing")
    create_writer(counting, "waiting")
    wait_for(lambda: "pool own is full" in api.vm("waiting")["error"], "the other one to be told why it is not started")
    assert {host["state"] for host in api.hosts()} == {"up", "disabled"}
    assert [counting.guests(name) for name in (MOVING, FAITHFUL)] == others
    subprocess.run(["mount", "-o", "remount,size=16m", own_pool], check=True)
    written = len(api.vm_log(writing)[0])
    wait_for(lambda: len(api.vm_log(writing)[0]) > written, "it to go on")
    wait_for(lambda: counting.runs("waiting"), "the other one to run")
    assert counting.guests("writing") == guests
    delete(counting, "writing", "waiting")


def test_etcd_without_a_majority_costs_leased_guests_alone_and_nothing_runs_twice(counting: Counting, own_pool: Path) -> None:
    """Others might believe their hosts dead by then; whom nobody can take over goes on."""
    before = {name: counting.vm(name) for name in (MOVING, FAITHFUL)}
    local = create_writer(counting, "local")["id"]
    wait_for(lambda: counting.runs("local"), "it to run")
    guests = counting.traces.processes(local)
    for member in ("etcd-1", "etcd-2"):
        counting.lab(lab.freeze, member)
    try:
        wait_for(lambda: not any(counting.traces.processes(vm["id"]) for vm in before.values()), "the leased guests to end")
        assert counting.traces.processes(local) == guests
    finally:
        for member in ("etcd-1", "etcd-2"):
            counting.lab(lab.thaw, member)
    counting.wait_until_up()
    assert counting.traces.processes(local) == guests
    delete(counting, "local")
    counting.check()
    assert {name: counting.vm(name)["epoch"] for name in before} == {name: vm["epoch"] for name, vm in before.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_rounds_of_faults(counting: Counting, seed: int) -> None:
    play(counting, seed)
