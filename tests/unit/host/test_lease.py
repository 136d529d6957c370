"""Who says that a host is alive, until when its guests may count on that, and what kills them when it is over."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.store.test_lock import FaultyStore, ManualClock
from ucloud.base.errors import Invalid
from ucloud.driver.hypervisor.fake import FakeHypervisor, GuestDirectory
from ucloud.driver.hypervisor.reaper import FakeReaper, QemuReaper
from ucloud.driver.machine.linux import boot_id
from ucloud.host.deadman import LOOK_S, Deadman
from ucloud.host.lease import DEGRADED_S, Lease, timing
from ucloud.host.moment import Moment
from ucloud.model.guest import GuestSpec
from ucloud.model.host import Alive
from ucloud.model.record import decode
from ucloud.store.lease import LeasedKey

TTL_S = 2.0
TIMES = timing(TTL_S, election_s=0.3)
VM = "vm-01m83gv14bgg4gf68ert230pyn"


class Site:
    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(self.clock)
        self.deadline, self.beat = Moment(directory / "lease", "boot"), Moment(directory / "beat", "boot")
        self.killed: list[float] = []
        self.deadman = Deadman(self.deadline, self._kill, self.clock)
        self.lease = self.new_lease()

    def new_lease(self) -> Lease:
        leased = LeasedKey(self.store, Alive(host="h1", boot="boot"), TTL_S, self.clock, TIMES.renew_s)
        return Lease(leased, self.deadline, self.beat, self.clock, TIMES)

    def alive(self) -> Alive | None:
        item = self.store.get("alive/h1")
        return decode(Alive, item.value)[0] if item else None

    def _kill(self) -> frozenset[str]:
        self.killed.append(self.clock.time_s)
        return frozenset({VM})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_deadline_counts_from_before_the_renewal_was_sent(site: Site) -> None:
    began_s = site.clock.time_s
    site.lease.step()
    assert site.deadline.get() == began_s + 1.7
    site.clock.time_s += 0.3  # not yet due
    site.lease.step()
    assert site.deadline.get() == began_s + 1.7
    site.clock.time_s += 0.2
    site.lease.step()
    assert site.deadline.get() == began_s + 0.5 + 1.7


def test_guests_are_dead_before_anybody_may_think_so(site: Site) -> None:
    site.lease.step()
    while site.alive():
        site.clock.time_s += max(0.001, min(site.deadman.step(), 0.01))
    assert site.killed
    assert site.killed[0] <= site.clock.time_s - (TTL_S - TIMES.hold_s) + 0.02


def test_what_starts_without_a_lease_is_killed_until_there_is_one(site: Site) -> None:
    assert site.deadman.step() == LOOK_S
    assert site.deadman.step() == LOOK_S
    assert len(site.killed) == 2
    site.lease.step()
    assert 0 < site.deadman.step() <= LOOK_S
    assert len(site.killed) == 2


@pytest.mark.parametrize("fault", ["request", "answer"])
def test_a_renewal_that_is_lost_moves_no_deadline(site: Site, fault: str) -> None:
    site.lease.step()
    before = site.deadline.get()
    site.clock.time_s += TIMES.renew_s
    site.store.faults["keep_alive"] = fault
    site.lease.step()
    assert site.deadline.get() == before
    site.lease.step()
    assert site.deadline.get() == site.clock.time_s + TIMES.hold_s


def test_a_lease_that_ran_out_is_begun_anew(site: Site) -> None:
    site.lease.step()
    site.clock.time_s += 10
    site.lease.step()
    assert site.alive()
    assert site.deadline.get() == site.clock.time_s + TIMES.hold_s


def test_a_restart_of_the_daemon_lets_no_guest_die(site: Site) -> None:
    """The key of the dead one must not take that of its heir along when its lease runs out."""
    site.lease.step()
    site.clock.time_s += 0.4
    heir = site.new_lease()
    for _ in range(20):
        heir.step()
        assert site.deadman.step() <= LOOK_S
        assert site.alive()
        site.clock.time_s += TIMES.renew_s
    assert site.killed == []


def test_a_host_daemon_that_does_not_look_makes_the_host_degraded_and_kills_nobody(site: Site) -> None:
    site.lease.step()
    site.beat.set(site.clock.time_s)
    said = []
    for _ in range(40):
        site.clock.time_s += TIMES.renew_s
        site.lease.step()
        site.deadman.step()
        alive = site.alive()
        assert alive
        said.append(alive.degraded)
    assert said.index(True) * TIMES.renew_s == pytest.approx(DEGRADED_S, abs=1)
    assert all(said[said.index(True) :])
    assert site.killed == []
    site.beat.set(site.clock.time_s)
    site.lease.step()
    assert site.alive() == Alive(host="h1", boot="boot")


@pytest.mark.parametrize(("ttl_s", "election_s"), [(2.0, 0.3), (6.0, 1.0), (30.0, 1.0)])
def test_two_elections_of_etcd_cost_no_guest(ttl_s: float, election_s: float) -> None:
    times = timing(ttl_s, election_s)
    assert times.renew_s + 2 * (2 * election_s) <= times.hold_s + 1e-9 < ttl_s


def test_a_lease_too_short_for_etcd_is_refused() -> None:
    with pytest.raises(Invalid, match=r"ttl_s = 2 is too short for \[etcd\] election_ms = 1000.*Make it 5\.3 or more"):
        timing(2.0, 1.0)


def test_a_moment_of_another_boot_or_a_damaged_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "lease"
    moment = Moment(file, "boot 1")
    assert moment.get() is None
    moment.set(12.5)
    assert moment.get() == Moment(file, "boot 1").get() == 12.5
    assert Moment(file, "boot 2").get() is None
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.write_bytes(content)
    assert moment.get() is None
    file.write_bytes(bytes(content)[:20])
    assert moment.get() is None


def test_each_boot_of_a_host_has_an_id_that_all_its_processes_know(tmp_path: Path) -> None:
    first = boot_id(tmp_path / "run")
    assert boot_id(tmp_path / "run") == first
    for file in (tmp_path / "run").iterdir():
        file.unlink()  # as a power cut does
    assert boot_id(tmp_path / "run") != first


@contextmanager
def guest(run_dir: Path, vm: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is recognised as a guest, as long as nobody looks closer."""
    directory = run_dir / "vm" / vm
    directory.mkdir(parents=True)
    words = ["-c", "import time; time.sleep(600)", "qemu", "-name", vm, "-smbios"]
    words.append("type=11,value=ucloud-epoch=1,value=ucloud-boots=1")
    process = subprocess.Popen([sys.executable, *words], cwd=directory)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_reaper_kills_what_is_not_spared(tmp_path: Path) -> None:
    other = f"{VM[:-1]}0"
    with guest(tmp_path, VM) as leased, guest(tmp_path, other) as spared:
        (tmp_path / "vm" / other / "spared").touch()
        assert QemuReaper(tmp_path).kill() == {VM}
        assert leased.wait(timeout=60) == -9
        assert spared.poll() is None
        assert QemuReaper(tmp_path).kill() == frozenset()
        (tmp_path / "vm" / other / "spared").unlink()
        assert QemuReaper(tmp_path).kill() == {other}
        spared.wait(timeout=60)


def test_fake_guests_die_likewise(tmp_path: Path) -> None:
    hypervisor = FakeHypervisor(GuestDirectory(tmp_path / "fake"))
    for vm, leased in (("vm-a", True), ("vm-b", False)):
        hypervisor.start(GuestSpec(vm=vm, name=vm, epoch=1, boots=1, cpus=1, memory_mib=64, leased=leased))
    assert FakeReaper(tmp_path).kill() == {"vm-a"}
    assert set(hypervisor.actual()) == {"vm-b"}
    assert FakeReaper(tmp_path).kill() == frozenset()
