"""Hosts die, stand still and lose their network under real guests, which write to their disks who they are: their VMs run
elsewhere, and never twice (counter.py reads that from the disks).

One cloud and two VMs for all tests, of which each leaves everything healed. How fast it is is measured by bench/failover.py.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import counter
from tests.e2e.conftest import DEADLINE_S, wait_for
from tests.e2e.counting import FAITHFUL, MOVING, Counting, counting_cloud, etcd_members_fail, play

KILLERS = ("daemon", "deadman", "lease")
SEEDS = (1, 2, 3, 4, random.SystemRandom().randrange(10**6))
pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def counting(no_leftovers: None, tiny_file: Path) -> Iterator[Counting]:
    with counting_cloud("f", tiny_file) as found:
        yield found


def test_vms_of_a_host_that_is_cut_off_run_elsewhere_and_never_twice(counting: Counting) -> None:
    before = counting.vm(MOVING)
    counting.lab("cut", before["host"])
    try:
        after = counting.wait_until_it_moved(MOVING, before)
        assert counter.findings(counting.lanes(MOVING)) == []
        assert {before["epoch"], after["epoch"]} <= {*counter.epochs(counting.lanes(MOVING))}, "it is the same disk"
    finally:
        counting.lab("heal", before["host"])
    counting.check()
    assert counting.vm(MOVING)["host"] != before["host"], "it does not go back"


def test_a_host_without_power_loses_its_vms_unless_disarmed_and_is_used_again(counting: Counting) -> None:
    api, before = counting.api, counting.vm(MOVING)
    api.arm(False, "cables are changed")
    counting.lab("kill", before["host"])
    try:
        wait_for(lambda: "cables are changed" in str(api.cluster()["findings"]), "somebody to say why nothing moves")
        assert counting.vm(MOVING)["epoch"] == before["epoch"]
        api.arm()
        counting.wait_until_it_moved(MOVING, before)
    finally:
        api.arm()
        counting.lab("boot", before["host"])
    counting.check()
    _, action = api.create_vm("back", "tiny", memory_mib=128, host=before["host"])
    assert api.wait(action, DEADLINE_S)["state"] == "success"
    assert api.wait(api.delete_vm("back"), DEADLINE_S)["state"] == "success"


def test_who_may_not_move_waits_for_its_host(counting: Counting) -> None:
    before = counting.vm(FAITHFUL)
    counting.lab("kill", before["host"])
    try:
        wait_for(lambda: counting.vm(FAITHFUL)["epoch"] > before["epoch"], "what its host had begun to be void")
        assert counting.guests(FAITHFUL) == []
    finally:
        counting.lab("boot", before["host"])
    counting.check()
    assert counting.vm(FAITHFUL)["host"] == before["host"]


def test_host_daemon_and_deadman_that_stand_still_cost_no_guest(counting: Counting) -> None:
    """The lease is renewed."""
    before, guests = counting.vm(MOVING), counting.guests(MOVING)
    for only in ("daemon", "deadman"):
        counting.lab("freeze", before["host"], "--only", only)
    try:
        wait_for(lambda: counting.api.host(before["host"])["state"] == "degraded", "the host daemon to be missed")
        counting.outlasts_a_lease(MOVING)
    finally:
        counting.lab("thaw", before["host"])
    counting.check()
    assert (counting.vm(MOVING)["epoch"], counting.guests(MOVING)) == (before["epoch"], guests)


@pytest.mark.parametrize("frozen", [[["--only", name] for name in KILLERS], [[]]], ids=["its killers", "its host"])
def test_a_guest_that_nobody_is_left_to_kill_keeps_the_next_one_out(counting: Counting, frozen: list[list[str]]) -> None:
    """Also one that stands still itself: what is left is qemu's lock on the disk, until somebody wakes up to kill."""
    before, guests = counting.vm(MOVING), counting.guests(MOVING)
    for only in frozen:
        counting.lab("freeze", before["host"], *only)
    try:
        wait_for(lambda: counting.vm(MOVING)["host"] not in ("", before["host"]), "it to be given away")
        wait_for(lambda: "locked" in str(counting.vm(MOVING)["error"]), "its new host to find its disk locked")
        assert counting.guests(MOVING) == guests
    finally:
        counting.lab("thaw", before["host"])
    counting.wait_until_it_moved(MOVING, before)
    counting.check()


def test_the_loss_of_an_etcd_member_costs_no_guest(counting: Counting) -> None:
    etcd_members_fail(counting, "etcd", times=3)


@pytest.mark.parametrize("seed", SEEDS)
def test_rounds_of_faults(counting: Counting, seed: int) -> None:
    play(counting, seed)
