"""What every hypervisor driver promises (ucloud/driver/hypervisor/contract.py), on the fake and on real qemu processes."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypervisors import HypervisorWorld, open_world, wait_for

from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.driver.hypervisor.contract import MOST_NICS, Guest, Hypervisor, Log

VM, OTHER = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z", "vm-01kd2g5x8p6q0v3n9r7t4w1y30"
LOG_BYTES = 1 << 20


@pytest.fixture(params=["fake", "fake in a directory", "qemu"])
def world(request: pytest.FixtureRequest) -> Iterator[HypervisorWorld]:
    yield from open_world(request.param)


@pytest.fixture(params=["fake in a directory", "qemu"])
def lasting_world(request: pytest.FixtureRequest) -> Iterator[HypervisorWorld]:
    yield from open_world(request.param)


@pytest.fixture
def driver(world: HypervisorWorld) -> Hypervisor:
    return world.driver()


def woken(driver: Hypervisor) -> threading.Event:
    event = threading.Event()
    driver.subscribe(event.set)
    return event


def test_a_started_guest_is_seen_as_it_was_asked_for(world: HypervisorWorld, driver: Hypervisor) -> None:
    assert driver.actual() == {}
    driver.start(world.spec(VM, epoch=7, boots=3))
    assert driver.actual() == {VM: Guest(vm=VM, epoch=7, boots=3, state="running")}
    assert driver.actual({VM, OTHER}) == driver.actual()
    assert driver.actual({OTHER}) == {}
    assert driver.traces() == {VM}


def test_a_guest_reads_what_it_is_told_at_this_start(world: HypervisorWorld, driver: Hypervisor) -> None:
    told = {"meta-data": b"{}\n", "user-data": bytes(range(256)) * 256, "a-name-as-long-as.few": b""}
    driver.start(msgspec.structs.replace(world.spec(VM), cidata=told))
    assert world.cidata(driver, VM) == told
    driver.kill(VM)
    driver.start(msgspec.structs.replace(world.spec(VM, boots=2), cidata={"meta-data": b"new\n"}))
    assert world.cidata(driver, VM) == {"meta-data": b"new\n"}
    driver.kill(VM)
    driver.start(world.spec(VM, boots=3))
    assert world.cidata(driver, VM) == {}


def test_a_guest_is_leased_if_it_was_asked_for_and_from_then_on_when_it_is_guarded(
    world: HypervisorWorld, driver: Hypervisor
) -> None:
    leased = msgspec.structs.replace(world.spec(VM), leased=True)
    driver.start(leased)
    driver.start(world.spec(OTHER))
    assert [driver.actual()[vm].leased for vm in (VM, OTHER)] == [True, False]
    driver.close()
    heir = world.driver()
    assert [heir.actual()[vm].leased for vm in (VM, OTHER)] == [True, False]
    for vm in (VM, OTHER, OTHER):
        heir.guard(vm)
        assert heir.actual()[vm].leased
    assert all(guest.leased for guest in world.driver().actual().values())
    for vm, spec in ((VM, world.spec(VM)), (OTHER, msgspec.structs.replace(leased, vm=OTHER, disks=world.spec(OTHER).disks))):
        heir.kill(vm)
        heir.start(spec)
        assert heir.actual()[vm].leased == spec.leased, "what was said of its last guest does not count"


def test_a_guest_without_space_stands_still_until_there_is_some(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.resume(VM)
    wake = woken(driver)
    world.fill(driver, VM)
    wait_for(lambda: driver.actual()[VM].state == "no-space", "the disk to be full")
    wait_for(wake.is_set, "somebody to be told")
    driver.resume(VM)
    wait_for(lambda: driver.actual()[VM].state == "no-space", "the disk to be as full as before")
    world.make_room(driver, VM)
    driver.close()
    heir = world.driver()
    wait_for(lambda: heir.actual()[VM].state == "no-space", "that to be found by looking")
    heir.resume(VM)
    wait_for(lambda: heir.actual()[VM].state == "running", "the guest to go on")
    heir.resume(VM)
    assert heir.actual()[VM].state == "running"


def test_what_runs_cannot_be_started(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM))
    with pytest.raises(Conflict):
        driver.start(world.spec(VM, boots=2))
    assert driver.actual()[VM].boots == 1


def test_a_killed_guest_is_gone_and_its_log_stays(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM))
    wait_for(lambda: bool(driver.log(VM).data), "the first line")
    driver.kill(VM)
    assert driver.actual() == {}
    assert driver.traces() == {VM}
    assert driver.log(VM).data
    driver.kill(VM)


def test_a_log_goes_on_with_the_next_boot(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM))
    wait_for(lambda: bool(driver.log(VM).data), "the first line")
    driver.kill(VM)
    first = driver.log(VM).data
    driver.start(world.spec(VM, boots=2))
    wait_for(lambda: len(driver.log(VM).data) > len(first), "a line of the second boot")
    assert driver.log(VM).data.startswith(first)
    assert driver.log(VM).start == 0


def test_nothing_is_left_of_a_forgotten_vm(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM))
    with pytest.raises(Conflict):
        driver.forget(VM)
    driver.kill(VM)
    driver.forget(VM)
    assert driver.traces() == frozenset()
    with pytest.raises(NotFound):
        driver.log(VM)
    driver.forget(VM)


def test_a_vm_that_never_was_has_no_guest_to_end(driver: Hypervisor) -> None:
    driver.guard(VM)
    driver.power_down(VM)
    driver.kill(VM)
    driver.forget(VM)
    with pytest.raises(NotFound):
        driver.log(VM)
    assert driver.traces() == frozenset()


def test_a_start_that_fails_leaves_nothing_running(world: HypervisorWorld, driver: Hypervisor) -> None:
    world.refuse_next_start(driver, spec := world.spec(VM))
    with pytest.raises(Temporary) as caught:
        driver.start(spec)
    assert caught.value.message
    assert driver.actual() == {}
    driver.kill(VM)
    driver.forget(VM)
    assert driver.traces() == frozenset()
    driver.start(world.spec(VM))
    assert VM in driver.actual()


def test_a_crash_wakes_and_is_seen(world: HypervisorWorld, driver: Hypervisor) -> None:
    event = woken(driver)
    driver.start(world.spec(VM))
    event.clear()
    world.crash(driver, VM)
    assert event.wait(60)
    wait_for(lambda: driver.actual() == {}, "the crash to be seen")
    assert driver.traces() == {VM}
    driver.start(world.spec(VM))
    assert driver.actual()[VM].state == "running"


def test_a_guest_that_powered_itself_off_stays_to_be_seen(world: HypervisorWorld, driver: Hypervisor) -> None:
    event = woken(driver)
    driver.start(world.spec(VM, boots=4))
    world.power_off(driver, VM)
    assert event.wait(60)
    wait_for(lambda: driver.actual()[VM].state == "powered-off", "the guest to power off")
    assert driver.actual()[VM].boots == 4
    with pytest.raises(Conflict):
        driver.start(world.spec(VM, boots=5))
    driver.kill(VM)
    assert driver.actual() == {}


def test_the_power_button_is_heard(world: HypervisorWorld, driver: Hypervisor) -> None:
    event = woken(driver)
    driver.start(world.spec(VM))
    wait_for(lambda: bool(driver.log(VM).data), "the first line")

    def off() -> bool:
        driver.power_down(VM)  # again and again: a guest may not listen yet
        return driver.actual()[VM].state == "powered-off"

    wait_for(off, "the guest to power off")
    assert event.wait(60)
    driver.power_down(VM)


def test_the_next_daemon_finds_what_the_last_one_started(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM, epoch=2, boots=9))
    driver.start(world.spec(OTHER))
    world.power_off(driver, OTHER)
    wait_for(lambda: driver.actual()[OTHER].state == "powered-off", "the guest to power off")
    before = driver.actual()
    driver.close()

    heir = world.driver()
    assert heir.actual() == before
    assert heir.traces() == {VM, OTHER}
    with pytest.raises(Conflict):
        heir.start(world.spec(VM))
    event = woken(heir)
    world.crash(heir, VM)
    assert event.wait(60)
    wait_for(lambda: VM not in heir.actual(), "the crash to be seen")
    heir.kill(OTHER)
    assert heir.actual() == {}


def test_guests_survive_the_sudden_death_of_the_daemon(lasting_world: HypervisorWorld) -> None:
    spec = lasting_world.spec(VM, epoch=5, boots=2)
    program = lasting_world.program() + (
        "import msgspec, sys\n"
        "from ucloud.driver.hypervisor.contract import GuestSpec\n"
        f"driver.start(msgspec.json.decode({msgspec.json.encode(spec)!r}, type=GuestSpec))\n"
        "print('started', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout
        try:
            assert daemon.stdout.readline() == b"started\n"
        finally:
            daemon.kill()
    heir = lasting_world.driver()
    assert heir.actual() == {VM: Guest(vm=VM, epoch=5, boots=2, state="running")}
    heir.kill(VM)
    assert heir.actual() == {}


def test_hosts_on_one_machine_dont_see_each_others_guests(world: HypervisorWorld, driver: Hypervisor) -> None:
    neighbour = world.driver("h2")
    driver.start(world.spec(VM))
    assert neighbour.actual() == {}
    assert neighbour.traces() == frozenset()
    neighbour.kill(VM)
    assert VM in driver.actual()


def macs(driver: Hypervisor) -> frozenset[str]:
    return driver.actual()[VM].macs


def test_a_guest_has_the_interfaces_it_was_started_with(world: HypervisorWorld, driver: Hypervisor) -> None:
    nics = (world.nic(1), world.nic(2))
    driver.start(msgspec.structs.replace(world.spec(VM), nics=nics))
    assert macs(driver) == {nic.mac for nic in nics}
    driver.close()
    assert macs(world.driver()) == {nic.mac for nic in nics}


def test_an_interface_comes_and_goes(world: HypervisorWorld, driver: Hypervisor) -> None:
    first, second = world.nic(1), world.nic(2)
    world.keeper(driver, VM, first)
    for _ in range(2):
        driver.attach(VM, second)
        assert macs(driver) == {first.mac, second.mac}
    driver.close()

    heir = world.driver()
    world.loosen(heir, VM)
    assert macs(heir) == {first.mac, second.mac}
    for _ in range(2):
        wait_for(lambda: has_let_go(heir, first.mac), "the guest to let go")
        assert macs(heir) == {second.mac}
    heir.attach(VM, first)
    assert macs(heir) == {first.mac, second.mac}


def test_a_guest_that_keeps_an_interface_is_asked_again(world: HypervisorWorld, driver: Hypervisor) -> None:
    nic = world.nic(1)
    world.keeper(driver, VM, nic)
    for _ in range(2):
        with pytest.raises(Temporary):
            driver.detach(VM, nic.mac)
        assert macs(driver) == driver.actual()[VM].cut == {nic.mac}
    world.loosen(driver, VM)
    wait_for(lambda: has_let_go(driver, nic.mac), "the guest to let go")
    assert macs(driver) == frozenset()


def test_an_interface_that_is_cut_is_replaced(world: HypervisorWorld, driver: Hypervisor) -> None:
    nic = world.nic(1)
    world.keeper(driver, VM, nic)
    assert driver.actual()[VM].cut == frozenset()
    world.cut(driver, VM, nic)
    for _ in range(2):
        assert macs(driver) == driver.actual()[VM].cut == {nic.mac}
        with pytest.raises(Temporary):
            driver.attach(VM, nic)
    world.loosen(driver, VM)
    driver.attach(VM, nic)
    assert macs(driver) == {nic.mac}
    assert driver.actual()[VM].cut == frozenset()
    driver.detach(VM, nic.mac)
    world.cut(driver, VM, nic)
    assert macs(driver) == driver.actual()[VM].cut == frozenset()


def has_let_go(driver: Hypervisor, mac: str) -> bool:
    try:
        driver.detach(VM, mac)
    except Temporary:
        return False
    return True


def test_a_guest_has_no_more_interfaces_than_it_can(world: HypervisorWorld, driver: Hypervisor) -> None:
    nics = [world.nic(number) for number in range(MOST_NICS + 1)]
    driver.start(msgspec.structs.replace(world.spec(VM), nics=tuple(nics[:-2])))
    driver.attach(VM, nics[-2])
    with pytest.raises(Conflict):
        driver.attach(VM, nics[-1])
    assert macs(driver) == {nic.mac for nic in nics[:-1]}


def test_where_no_guest_is_there_are_no_interfaces(world: HypervisorWorld, driver: Hypervisor) -> None:
    nic = world.nic(1)
    driver.detach(VM, nic.mac)
    with pytest.raises(Conflict):
        driver.attach(VM, nic)
    assert driver.traces() == frozenset()


def test_vms_are_worked_on_in_parallel(world: HypervisorWorld, driver: Hypervisor) -> None:
    specs = [world.spec(VM), world.spec(OTHER)]
    failures: list[BaseException] = []

    def life(number: int) -> None:
        try:
            for _ in range(3):
                driver.start(specs[number])
                assert specs[number].vm in driver.actual()
                driver.kill(specs[number].vm)
                driver.forget(specs[number].vm)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=life, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert driver.actual() == {}
    assert driver.traces() == frozenset()


def test_a_log_that_nobody_trims_is_bounded(world: HypervisorWorld, driver: Hypervisor) -> None:
    world.flood(driver, VM)
    size = 0

    def full() -> bool:
        nonlocal size
        before, size = size, len(driver.log(VM).data)
        return size >= LOG_BYTES // 2 and size == before

    wait_for(full, "the log to fill up")
    assert size <= LOG_BYTES
    driver.trim()
    assert driver.log(VM).data
    assert driver.log(VM).start > 0


def test_a_log_is_read_on_from_where_it_ended(world: HypervisorWorld, driver: Hypervisor) -> None:
    driver.start(world.spec(VM))
    wait_for(lambda: driver.log(VM).data.endswith(b"\n"), "the first line")
    first = driver.log(VM)
    assert driver.log(VM, first.end) == Log(b"", first.end)
    assert driver.log(VM, 2, limit=3) == Log(first.data[2:5], 2)
    assert driver.log(VM, -4) == Log(first.data[-4:], first.end - 4)
    assert driver.log(VM, -first.end - 1) == first
    assert driver.log(VM, first.end + 1) == first, "somebody else's log was longer"
    driver.kill(VM)
    driver.start(world.spec(VM, boots=2))
    wait_for(lambda: driver.log(VM, first.end).data.endswith(b"\n"), "a line of the second boot")
    second = driver.log(VM, first.end)
    assert second.start == first.end
    assert driver.log(VM).data == first.data + second.data


def test_what_is_typed_reaches_the_guest(world: HypervisorWorld, driver: Hypervisor) -> None:
    with pytest.raises(NotFound):
        driver.console(VM)
    world.echo(driver, VM)
    for line in (b"first\x03", b"\x00second"):  # bytes, not text
        console = driver.console(VM)
        console.type(line)
        wait_for(lambda line=line: driver.log(VM).data.endswith(line), "its echo")  # type: ignore[misc]
        console.close()
        console.close()


def test_nobody_hears_what_is_typed_when_the_guest_is_gone(world: HypervisorWorld, driver: Hypervisor) -> None:
    world.echo(driver, VM)
    console = driver.console(VM)
    console.type(b"x")
    driver.kill(VM)

    def refused() -> bool:
        try:
            console.type(b"y")
        except NotFound:
            return True
        return False

    wait_for(refused, "the end to be noticed")
    console.close()
    driver.start(world.spec(VM, boots=2))
    driver.console(VM).close()
