"""The host's loop, with a hypervisor that pretends: retries, deadlines, strays, restarts; and the workers' order."""

import threading
from collections.abc import Callable, Mapping

import msgspec
import pytest

from tests.unit.machine import VM, Machine
from tests.unit.world import EARLIER, fence, manifest, status
from ucloud.base.errors import Temporary
from ucloud.host.executor import Threads
from ucloud.host.loop import PERIOD_S
from ucloud.host.memory import ASK_AGAIN_S, LONGEST_RETRY_S
from ucloud.model.guest import Guest
from ucloud.model.host import Inventory

DEADLINE_S = 30.0


def running() -> Machine:
    machine = Machine()
    machine.tell()
    machine.settle()
    assert machine.status
    assert machine.status.phase == "running"
    return machine


def test_a_manifest_becomes_a_disk_a_guest_and_a_status() -> None:
    machine = running()
    assert list(machine.pool.disks()) == [(VM, "root")]
    assert machine.boots() == ["fake guest a epoch 1 boots 1"]
    assert machine.loop.step() == 5.0, "and then there is nothing to do"


def test_no_disk_is_made_before_the_status_says_starting() -> None:
    machine = Machine()
    machine.tell()
    machine.loop.step()
    machine.put(fence("host-1"))  # which the step under way does not know
    machine.settle()
    assert (list(machine.pool.disks()), machine.hypervisor.traces()) == ([], frozenset())


def test_it_says_what_it_has() -> None:
    machine = Machine()
    machine.settle()
    assert machine.inventory.memory_mib == 4096
    assert machine.store.get("status/host-1/endpoint")


def test_a_vm_that_was_resized_while_it_was_stopped_starts_with_its_new_size() -> None:
    machine = running()
    machine.tell(want="stopped", hard=True)
    machine.settle()
    disks = (msgspec.structs.replace(manifest().disks[0], size_mib=4096),)
    size: dict[str, object] = {"cpus": 2, "memory_mib": 1024, "disks": disks}
    machine.tell(want="stopped", revisions={"vm": 7}, **size)
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.revisions) == ("stopped", {"vm": 7}), "confirmed"
    assert machine.pool.size_mib(VM, "root") == 2048, "nobody has opened the disk"
    machine.tell(boots=2, **size)
    machine.settle()
    assert machine.pool.size_mib(VM, "root") == 4096
    guest = machine.hypervisor.specs[VM]
    assert (guest.cpus, guest.memory_mib) == (2, 1024)


def test_a_disk_that_cannot_grow_keeps_its_guest_from_starting() -> None:
    machine = running()
    machine.tell(want="stopped", hard=True)
    machine.settle()
    machine.pool.fail_next("add_disk")
    machine.tell(boots=2, disks=(msgspec.structs.replace(manifest().disks[0], size_mib=4096),))
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("starting", "start: add_disk was told to fail")
    assert machine.hypervisor.actual() == {}


def test_a_start_that_fails_is_said_and_tried_again_later_and_later() -> None:
    machine = Machine()
    machine.hypervisor.fail_next("start", 3)
    machine.tell()
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("starting", "start: start was told to fail")
    for pause_s in (1.0, 2.0, 4.0):
        machine.clock.pass_s(pause_s - 0.1)
        machine.settle()
        assert machine.hypervisor.actual() == {}, "too early"
        machine.clock.pass_s(0.1)
        machine.settle()
    assert (machine.status.phase, machine.status.error) == ("running", "")


def test_a_guest_without_space_goes_on_when_there_is_some() -> None:
    machine = running()
    machine.hypervisor.fill(VM)
    machine.settle()
    for _ in range(3):
        assert machine.status
        assert (machine.status.phase, machine.status.error[:23]) == ("running", "the guest stands still:")
        machine.clock.pass_s(ASK_AGAIN_S)
        machine.settle()
    machine.hypervisor.full.clear()
    machine.hypervisor.fail_next("resume")
    machine.clock.pass_s(ASK_AGAIN_S)
    machine.settle()
    assert machine.status.error == "resume: resume was told to fail"
    machine.clock.pass_s(LONGEST_RETRY_S)
    machine.settle()
    assert (machine.status.phase, machine.status.error, machine.status.crashes) == ("running", "", 0)
    assert machine.hypervisor.actual()[VM].state == "running"


def test_a_new_manifest_is_tried_at_once() -> None:
    machine = Machine()
    machine.fail_to_start()
    assert machine.hypervisor.actual() == {}
    machine.tell(boots=2)
    machine.settle()
    assert machine.boots() == ["fake guest a epoch 1 boots 2"]


def test_a_guest_that_crashes_again_and_again_is_started_less_and_less_often() -> None:
    machine = running()
    waits_s = []
    for _ in range(8):
        machine.hypervisor.crash(VM)
        waited_s = 0.0
        machine.settle()
        while not machine.hypervisor.actual():
            machine.clock.pass_s(1.0)
            waited_s += 1.0
            machine.settle()
        waits_s.append(waited_s)
    assert waits_s == [0, 1, 3, 7, 15, 31, LONGEST_RETRY_S, LONGEST_RETRY_S]
    assert machine.status
    assert machine.status.crashes == 8


def test_a_guest_that_ran_for_long_is_started_at_once_when_it_crashes() -> None:
    machine = running()
    for _ in range(4):
        machine.hypervisor.crash(VM)
        machine.settle()
        machine.clock.pass_s(LONGEST_RETRY_S * 3)
        machine.settle()
        assert machine.hypervisor.actual()


def test_reboots_asked_for_are_never_held_up() -> None:
    machine = running()
    for boots in range(2, 12):
        machine.tell(boots=boots)
        machine.settle()
        assert machine.boots()[-1] == f"fake guest a epoch 1 boots {boots}"


def test_a_deaf_guest_is_killed_at_the_deadline_of_30_s() -> None:
    machine = running()
    machine.hypervisor.deaf.add(VM)
    machine.tell(want="stopped")
    machine.settle()
    machine.clock.pass_s(29)
    machine.settle()
    assert machine.status
    assert machine.status.phase == "stopping"
    machine.clock.pass_s(1)
    machine.settle()
    assert (machine.status.phase, machine.hypervisor.actual()) == ("stopped", {})


def test_a_deadline_begins_when_this_stop_was_asked_for_not_an_earlier_one() -> None:
    machine = running()
    machine.hypervisor.deaf.add(VM)
    machine.tell(want="stopped")
    machine.settle()
    machine.tell()  # changed his mind: the guest, which never heard, goes on
    machine.settle()
    machine.clock.pass_s(3600)
    machine.settle()
    machine.tell(want="stopped")
    machine.settle()
    assert machine.hypervisor.actual()


def test_deletion_leaves_nothing() -> None:
    machine = running()
    machine.tell(want="absent", disks_do="delete")
    machine.settle()
    assert (machine.status, machine.hypervisor.traces(), list(machine.pool.disks())) == (None, frozenset(), [])


def test_a_deletion_that_fails_is_said_and_tried_again() -> None:
    machine = running()
    machine.pool.fail_next("remove_disk")
    machine.tell(want="absent", disks_do="delete")
    machine.settle()
    assert machine.status
    assert machine.status.error == "erase: remove_disk was told to fail"
    machine.clock.pass_s(1)
    machine.settle()
    assert (machine.status, list(machine.pool.disks())) == (None, [])


def test_a_guest_that_no_manifest_names_is_killed_its_disk_kept_and_the_vm_reported() -> None:
    machine = running()
    machine.store.commit(deletes=[f"manifest/host-1/{VM}", f"status/host-1/vm/{VM}"])
    machine.settle()
    assert machine.hypervisor.actual() == {}
    assert list(machine.pool.disks()) == [(VM, "root")]
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.inventory.stray_vms == (VM,)


def test_a_host_that_was_removed_kills_its_guests_and_says_nothing_any_more(caplog: pytest.LogCaptureFixture) -> None:
    machine = running()
    machine.is_member = False
    said = [item.key for item in machine.store.list("status/host-1/").items]
    machine.store.commit(deletes=[*said, f"manifest/host-1/{VM}"])
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.hypervisor.actual() == {}
    assert list(machine.pool.disks()) == [(VM, "root")]
    assert not machine.store.list("status/").items
    assert caplog.text.count("was removed from the cloud") == 1
    assert "ucloud host join URL TOKEN --force" in caplog.text


def test_it_looks_at_what_changed_and_now_and_then_at_everything() -> None:
    machine = running()
    looks: list[set[str] | None] = []
    look = machine.hypervisor.actual

    def actual(vms: set[str] | None = None) -> Mapping[str, Guest]:
        looks.append(None if vms is None else set(vms))
        return look(vms)

    machine.hypervisor.actual = actual  # type: ignore[method-assign, assignment]
    machine.loop.step()
    machine.put(manifest("vm-b"))
    machine.loop.step()
    machine.clock.pass_s(PERIOD_S)
    machine.loop.step()
    machine.hypervisor.crash(VM)
    machine.loop.step()
    assert looks == [set(), {"vm-b"}, None, None]


def test_a_guest_that_vanishes_without_a_word_is_missed_at_the_next_look_at_everything() -> None:
    machine = running()
    machine.guests.clear()
    machine.settle()
    assert machine.hypervisor.actual() == {}
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert VM in machine.hypervisor.actual()
    assert machine.status
    assert machine.status.crashes == 1


def test_a_change_in_between_does_not_put_off_the_look_at_everything() -> None:
    machine = running()
    machine.clock.pass_s(PERIOD_S)
    machine.loop.step()
    machine.clock.pass_s(PERIOD_S - 1)
    assert machine.loop.step() <= 1


def test_what_a_broken_look_missed_is_looked_at_again() -> None:
    machine = running()
    machine.tell(want="stopped")
    machine.hypervisor.fail_next("actual")
    with pytest.raises(Temporary):
        machine.loop.step()
    machine.settle()
    assert machine.status
    assert machine.status.phase == "stopped"


def test_a_new_daemon_finds_the_guests_of_the_old_one() -> None:
    machine = running()
    before = machine.store.list("status/host-1/vm/")
    machine.daemon()
    machine.settle()
    assert machine.boots() == ["fake guest a epoch 1 boots 1"]
    assert machine.store.list("status/host-1/vm/").items == before.items


@pytest.mark.parametrize("verb", ["start", "kill", "forget"])
def test_an_act_whose_answer_is_lost_is_found_out_by_looking(verb: str) -> None:
    machine = Machine()
    machine.hypervisor.fail_next(verb, after=True)
    for told in ({}, {"want": "absent", "disks_do": "delete"}):
        machine.tell(**told)
        machine.settle()
        machine.clock.pass_s(1)
        machine.settle()
        if not told:
            assert machine.boots() == ["fake guest a epoch 1 boots 1"]
    assert (machine.status, machine.hypervisor.traces(), list(machine.pool.disks())) == (None, frozenset(), [])


def test_after_a_commit_whose_answer_is_lost_it_reads_again() -> None:
    machine = Machine()
    machine.settle()
    machine.tell()
    machine.loop.step()  # says starting
    machine.loop.step()  # starts
    machine.store.lose, machine.store.silent = "answer", True  # the watch does not tell
    machine.loop.step()  # says running
    machine.settle()
    machine.clock.pass_s(0.1)
    machine.hypervisor.crash(VM)
    machine.settle(2)
    assert machine.status
    assert machine.status.crashes == 1, "it knew that it had said running"


def test_nothing_is_decided_while_the_guests_cannot_be_seen() -> None:
    machine = running()
    machine.hypervisor.fail_next("actual")
    with pytest.raises(Temporary):
        machine.loop.step()
    assert machine.status == status(VM, since=machine.status.since if machine.status else EARLIER)


# The workers.


def test_steps_of_different_vms_run_side_by_side_and_each_wakes_the_loop() -> None:
    wakes: list[frozenset[str]] = []
    woken = threading.Semaphore(0)

    def wake() -> None:
        wakes.append(threads.busy())
        woken.release()

    threads = Threads(2, wake)
    both = threading.Barrier(3, timeout=DEADLINE_S)
    for name in ("vm-a", "vm-b"):
        threads.submit(name, lambda: (both.wait(), None)[1])
    assert threads.busy() == {"vm-a", "vm-b"}
    both.wait()
    for _ in range(2):
        assert woken.acquire(timeout=DEADLINE_S)
    assert wakes[-1] == frozenset(), "a VM is free again before the loop is woken"
    assert threads.busy() == frozenset()


class Gated(Threads):
    """Workers that wait at a gate before each step."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(4, wake)
        self.open = threading.Event()
        self.started = 0

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        def wait_and_work() -> None:
            assert self.open.wait(DEADLINE_S)
            work()

        self.started += 1
        super().submit(vm, wait_and_work)


def test_the_loop_gives_a_vm_no_second_step_while_one_is_under_way() -> None:
    ended = threading.Semaphore(0)
    executor = Gated(ended.release)
    machine = Machine(executor)
    machine.put(Inventory(host="host-1", cpus=1, memory_mib=1, hypervisor="fake", accel="fake", version="0", boot="boot-1"))
    machine.tell()
    machine.settle()
    assert executor.busy() == {VM, "host-1"}
    assert executor.started == 2, "one for the VM, one for the host itself"
    executor.open.set()
    for _ in range(2):
        assert ended.acquire(timeout=DEADLINE_S)
    assert machine.status
    assert machine.status.phase == "starting"


def test_a_bug_in_a_step_is_raised_in_the_loop() -> None:
    woken = threading.Event()
    threads = Threads(1, woken.set)
    threads.submit(VM, lambda: [][0])
    assert woken.wait(DEADLINE_S)
    with pytest.raises(IndexError):
        threads.busy()


def test_an_error_goes_with_what_it_was_about() -> None:
    machine = Machine()
    machine.hypervisor.fail_next("start", after=True)
    machine.tell()
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("running", ""), "the guest had started, only the answer was lost"
