"""What only real qemu processes can show: their confinement, their logs' bound, and that a stuck one can still be ended."""

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypervisors import HELLO, QemuWorld, wait_for

from ucloud.base.errors import NotYet, Temporary
from ucloud.driver.hypervisor import qemu, qemu_nics
from ucloud.driver.hypervisor.accel import working_accel
from ucloud.driver.hypervisor.contract import GuestDisk
from ucloud.driver.hypervisor.qemu import QemuHypervisor
from ucloud.driver.hypervisor.qemu_command import uid
from ucloud.driver.hypervisor.qemu_process import launch

VM, OTHER = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z", "vm-01kd2g5x8p6q0v3n9r7t4w1y30"
CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def world() -> Iterator[QemuWorld]:
    world = QemuWorld()
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def driver(world: QemuWorld) -> QemuHypervisor:
    return world.driver()


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def test_a_guest_has_no_rights_but_on_its_disk(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(spec := world.spec(VM))
    process = status(world.process_of(VM))
    assert process["Uid"] == process["Gid"] == [str(uid(VM))] * 4
    assert [process[name] for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")] == [["0" * 16]] * 5
    assert process["NoNewPrivs"] == ["1"]
    assert process["Seccomp"] == ["2"]
    assert "0" not in process["Groups"]
    disk = Path(spec.disks[0].path).stat()
    assert (disk.st_uid, stat.S_IMODE(disk.st_mode)) == (uid(VM), 0o600)
    assert world.image("obedient").stat().st_uid == 0
    written_by_it = [path for path in world.directory.rglob("*") if path.stat().st_uid != 0 and path.suffix != ".disk"]
    assert written_by_it == []
    for private in ("vm", f"vm/{VM}", f"vm/{VM}/log"):
        assert stat.S_IMODE((world.run_dir() / private).stat().st_mode) == 0o700


def test_a_guest_cannot_change_what_it_is_told(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(msgspec.structs.replace(world.spec(VM), cidata={"meta-data": b"{}"}))
    descriptor = world.cidata_of(VM)
    assert descriptor
    with pytest.raises(PermissionError), descriptor.open("r+b", buffering=0) as file:  # root could open it
        file.write(b"x")
    assert not list(world.directory.rglob("*cidata*"))


def test_a_guest_weighs_less_than_the_daemons(world: QemuWorld, driver: QemuHypervisor) -> None:
    """On machines with control groups; nothing of them stays behind."""
    driver.start(world.spec(VM))
    groups = [line.split(":", 2) for line in Path(f"/proc/{world.process_of(VM)}/cgroup").read_text().splitlines()]
    ours = [group for _, _, group in groups if group.startswith("/ucloud/") and group.endswith(f"/{VM}")]
    assert bool(ours) == bool(list(CGROUPS.glob("cpu/cgroup.procs")) or "cpu" in _v2_controllers())
    assert Path(f"/proc/{world.process_of(VM)}/oom_score_adj").read_text() == "500\n"
    driver.kill(VM)
    assert not [path for group in ours for path in CGROUPS.glob(f"*{group}")]


def test_the_reason_of_a_failed_start_is_qemus_own(world: QemuWorld, driver: QemuHypervisor) -> None:
    spec = world.spec(VM)
    Path(spec.disks[0].path).write_bytes(b"garbage" * 1000)
    with pytest.raises(Temporary, match="not in qcow2 format"):
        driver.start(spec)
    with pytest.raises(Temporary, match="No such file"):
        driver.start(msgspec.structs.replace(spec, disks=(GuestDisk(name="root", path="/nonexistent/disk"),)))
    with pytest.raises(Temporary, match="foolish"):
        driver.start(msgspec.structs.replace(spec, disks=(GuestDisk(name="r", path=spec.disks[0].path, format="foolish"),)))
    assert driver.actual() == {}


def test_two_guests_never_write_to_one_disk(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(world.spec(VM))
    shared = msgspec.structs.replace(world.spec(VM), vm=OTHER)
    for other_host in (driver, world.driver("h2")):
        with pytest.raises(NotYet, match="its disk is still locked"):
            other_host.start(shared)
    assert set(driver.actual()) == {VM}
    driver.kill(VM)
    other_host.start(shared)
    assert set(other_host.actual()) == {OTHER}


@pytest.mark.parametrize("leased", [False, True])
def test_who_kills_leased_guests_knows_before_there_is_a_process(
    world: QemuWorld, driver: QemuHypervisor, monkeypatch: pytest.MonkeyPatch, leased: bool
) -> None:
    directory = world.run_dir() / "vm" / VM
    spared: list[bool] = []

    def watched(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        spared.append((directory / "spared").exists())
        return launch(*arguments, **options)

    monkeypatch.setattr(qemu, "launch", watched)
    for before in (False, True):
        driver.start(msgspec.structs.replace(world.spec(VM), leased=before))
        driver.kill(VM)
        driver.start(msgspec.structs.replace(world.spec(VM), leased=leased))
        driver.kill(VM)
    assert spared == [True, not leased, False, not leased]


def test_a_guest_that_stands_still_hides_nobody_and_can_be_killed(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(world.spec(VM))
    driver.start(world.spec(OTHER))
    os.kill(world.process_of(VM), signal.SIGSTOP)
    with pytest.raises(Temporary):
        driver.power_down(VM)
    assert {vm: guest.state for vm, guest in driver.actual().items()} == {VM: "running", OTHER: "running"}
    driver.close()

    heir = world.driver()
    assert {vm: guest.state for vm, guest in heir.actual().items()} == {VM: "paused", OTHER: "running"}
    heir.kill(VM)
    assert set(heir.actual()) == {OTHER}


def test_a_thawed_guest_is_heard_again(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(world.spec(VM))
    wait_for(lambda: HELLO in driver.log(VM).data, "the guest to boot")
    os.kill(world.process_of(VM), signal.SIGSTOP)
    with pytest.raises(Temporary):
        driver.power_down(VM)
    os.kill(world.process_of(VM), signal.SIGCONT)
    wait_for(lambda: driver.actual()[VM].state == "powered-off", "the guest to obey at last")


def test_a_full_log_harms_no_guest_and_trimming_makes_room(world: QemuWorld, driver: QemuHypervisor) -> None:
    world.flood(driver, VM)
    log = world.run_dir() / "vm" / VM / "log"

    def free() -> int:
        return os.statvfs(log).f_bavail

    wait_for(lambda: free() == 0, "the log to fill its file system")
    assert driver.actual()[VM].state == "running"
    size = (log / "serial").stat().st_size
    driver.trim()
    wait_for(lambda: (log / "serial").stat().st_size > size, "the guest to write on")
    assert HELLO in driver.log(VM).data
    assert b"\0" not in driver.log(VM).data


def test_a_console_holds_up_no_guest(world: QemuWorld, driver: QemuHypervisor) -> None:
    """qemu stops a guest that writes faster than its console is read."""
    world.flood(driver, VM)
    console = driver.console(VM)
    console.type(b"x")
    size = driver.log(VM).end
    wait_for(lambda: driver.log(VM).end > size + 10_000, "the guest to write on")
    console.close()


def test_a_guest_that_reads_nothing_holds_up_nobody_who_types(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(world.spec(VM))
    console = driver.console(VM)
    with pytest.raises(Temporary):
        console.type(b"x" * (4 << 20))
    console.close()


def test_a_mount_that_is_left_is_used_again(world: QemuWorld, driver: QemuHypervisor) -> None:
    for boots in (1, 2):
        driver.start(world.spec(VM, boots=boots))
        assert len(world.mounts()) == 1
        driver.kill(VM)
    driver.close()
    world.driver().start(world.spec(VM, boots=3))
    assert len(world.mounts()) == 1


def test_a_run_directory_may_have_a_long_name(world: QemuWorld) -> None:
    driver = world.driver("h" * 150)
    driver.start(world.spec(VM))
    driver.power_down(VM)
    assert VM in driver.actual()


def test_a_dead_process_is_no_guest_before_it_is_reaped(world: QemuWorld, driver: QemuHypervisor) -> None:
    driver.start(world.spec(VM))
    driver.close()  # so that nobody here reaps it
    pid = world.process_of(VM)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: status(pid)["State"][0] == "Z", "the process to be a zombie")
    assert world.driver().actual() == {}


def test_the_children_of_a_driver_are_reaped_at_once(world: QemuWorld, driver: QemuHypervisor) -> None:
    event = threading.Event()
    driver.subscribe(event.set)
    driver.start(world.spec(VM))
    pid = world.process_of(VM)
    os.kill(pid, signal.SIGKILL)
    assert event.wait(60)
    assert not Path(f"/proc/{pid}").exists()


def test_a_bystander_is_not_taken_for_a_guest(world: QemuWorld, driver: QemuHypervisor) -> None:
    """An operator's shell in the run directory, say."""
    driver.start(world.spec(VM))
    driver.kill(VM)
    before = Path.cwd()
    os.chdir(world.run_dir() / "vm" / VM)
    try:
        assert world.driver().actual() == {}
        driver.kill(VM)
    finally:
        os.chdir(before)


def test_a_tap_that_is_not_there_is_named(world: QemuWorld, driver: QemuHypervisor) -> None:
    there = world.nic(1)
    for name, why in (("utnone", "No such device"), ("lo", "Invalid argument")):
        missing = msgspec.structs.replace(there, tap=name)
        with pytest.raises(Temporary, match=f"tap {name} .*{why}"):
            driver.start(msgspec.structs.replace(world.spec(VM), nics=(there, missing)))
        assert driver.actual() == {}
        driver.start(world.spec(VM))
        with pytest.raises(Temporary, match=f"tap {name} .*{why}"):
            driver.attach(VM, missing)
        assert driver.actual()[VM].macs == frozenset()
        driver.kill(VM)
    assert not world.is_plugged_in(there)


def test_a_guest_holds_the_taps_that_it_has(world: QemuWorld, driver: QemuHypervisor) -> None:
    first, second = world.nic(1), world.nic(2)
    world.keeper(driver, VM, first)
    world.loosen(driver, VM)
    driver.attach(VM, second)
    assert world.is_plugged_in(first)
    assert world.is_plugged_in(second)
    driver.detach(VM, first.mac)
    assert not world.is_plugged_in(first)
    assert status(world.process_of(VM))["CapEff"] == ["0" * 16]
    driver.start(other := msgspec.structs.replace(world.spec(OTHER), nics=(first,)))
    with pytest.raises(Temporary, match="busy"):
        driver.attach(other.vm, second)
    driver.kill(VM)
    driver.attach(other.vm, second)
    assert world.is_plugged_in(second)


def test_an_attempt_that_was_broken_off_is_finished(
    world: QemuWorld, driver: QemuHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    nic = world.nic(1)
    driver.start(world.spec(VM))
    with monkeypatch.context() as patch:
        patch.setattr(qemu_nics, "nic_device", lambda port, nic: 1 / 0)  # here the daemon dies
        with pytest.raises(ZeroDivisionError):
            driver.attach(VM, nic)
    assert world.is_plugged_in(nic)
    assert driver.actual()[VM].macs == frozenset()
    driver.close()
    heir = world.driver()
    heir.attach(VM, nic)
    assert heir.actual()[VM].macs == {nic.mac}
    assert world.is_plugged_in(nic)


def test_an_attempt_that_fails_leaves_nothing(world: QemuWorld, driver: QemuHypervisor) -> None:
    nic = world.nic(1)
    driver.start(world.spec(VM))
    with pytest.raises(Temporary, match="host_mtu"):
        driver.attach(VM, msgspec.structs.replace(nic, mtu=70000))
    assert driver.actual()[VM].macs == frozenset()
    assert not world.is_plugged_in(nic)
    driver.attach(VM, nic)
    assert world.is_plugged_in(nic)


def test_a_guest_that_hears_and_keeps_is_asked_again(
    world: QemuWorld, driver: QemuHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_nics, "UNPLUG_S", 0.2)
    nic = world.nic(1)
    world.keeper(driver, VM, nic)
    world.press_key(driver, VM)
    for _ in range(2):
        with pytest.raises(Temporary, match="does not let go"):
            driver.detach(VM, nic.mac)
        assert driver.actual()[VM].macs == {nic.mac}
    event = threading.Event()
    driver.subscribe(event.set)
    world.press_key(driver, VM)
    assert event.wait(60)
    wait_for(lambda: driver.actual()[VM].macs == frozenset(), "it to be seen without asking")
    driver.detach(VM, nic.mac)
    assert not world.is_plugged_in(nic)


def test_kvm_is_not_used_where_no_linux_guest_boots_with_it(world: QemuWorld) -> None:
    """The kernel is none, so that the answer is the same on all machines; it is remembered."""
    kernel = world.directory / "kernel"
    kernel.write_bytes(b"not a kernel" * 1000)
    assert working_accel(world.directory, kernel) == "tcg"
    answer = (world.directory / "accel.json").read_bytes()
    assert working_accel(world.directory, kernel) == "tcg"
    assert (world.directory / "accel.json").read_bytes() == answer


def _v2_controllers() -> list[str]:
    file = CGROUPS / "cgroup.controllers"
    return file.read_text().split() if file.exists() else []
