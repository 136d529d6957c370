"""What only shows after hours: pauses that stop growing, and a host that is refused the same thing again and again."""

from tests.unit.machine import VM, Machine
from ucloud.base.errors import Conflict, Temporary
from ucloud.host.memory import LONGEST_RETRY_S

DAY = 1500  # times the longest pause


def test_a_start_that_fails_all_day_is_still_tried() -> None:
    machine = Machine()
    machine.hypervisor.fail_next("start", DAY)
    machine.tell()
    for _ in range(DAY + 10):
        machine.settle(3)
        machine.clock.pass_s(LONGEST_RETRY_S)
    assert machine.hypervisor.actual()


def test_a_guest_that_crashes_all_day_is_still_started() -> None:
    machine = Machine()
    machine.tell()
    for _ in range(DAY):
        machine.settle(4)
        machine.hypervisor.crash(VM)
        machine.clock.pass_s(LONGEST_RETRY_S)
    machine.settle()
    assert machine.hypervisor.actual()


def test_a_host_that_may_not_write_asks_less_and_less_often() -> None:
    machine = Machine()
    machine.settle()
    machine.tell()
    asked, commit = [], machine.store.commit

    def refused(*arguments: object, **options: object) -> int:
        asked.append(arguments)
        raise Conflict("a fence is there, which the view does not show yet")

    machine.store.commit = refused  # type: ignore[method-assign]
    for _ in range(600):
        machine.loop.step()
        machine.clock.pass_s(0.1)
    assert 5 < len(asked) < 30
    machine.store.commit = commit  # type: ignore[method-assign]
    for _ in range(20):
        machine.loop.step()
        machine.clock.pass_s(1)
    assert machine.status
    assert machine.status.phase == "running"


def test_a_host_whose_store_is_full_asks_less_and_less_often() -> None:
    machine = Machine()
    machine.settle()
    machine.tell()
    asked, commit = [], machine.store.commit

    def refused(*arguments: object, **options: object) -> int:
        asked.append(arguments)
        raise Temporary("no space", retry_s=5.0)

    machine.store.commit = refused  # type: ignore[method-assign]
    for _ in range(600):
        machine.loop.step()
        machine.clock.pass_s(0.1)
    assert 5 < len(asked) < 30
    machine.store.commit = commit  # type: ignore[method-assign]
    for _ in range(20):
        machine.loop.step()
        machine.clock.pass_s(1)
    assert machine.status
    assert machine.status.phase == "running"


def test_its_own_record_that_cannot_be_read_is_written_anew() -> None:
    machine = Machine()
    machine.settle()
    machine.store.commit({"status/host-1/inventory": b"garbage"})
    machine.settle()
    assert machine.inventory.memory_mib == 4096


def test_what_a_guest_makes_its_host_say_is_one_short_line() -> None:
    machine = Machine()
    machine.tell()

    def hostile(*_: object) -> None:
        raise Temporary("qemu refuses: \x1b[2J\n2026-11-22 error: all is lost" + "x" * 1_000_000)

    machine.hypervisor.start = hostile  # type: ignore[method-assign]
    machine.settle()
    assert machine.status
    assert machine.status.error.isprintable()
    assert len(machine.status.error) < 400
