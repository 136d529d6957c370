"""What the host manager remembers: silence, too many at once, etcd's own silence, fence commands."""

import threading
from pathlib import Path

import pytest

from tests.unit.hostmanager.test_decide import living, on
from tests.unit.world import HandClock, World, fence, manifest, pool
from ucloud.base.errors import Temporary
from ucloud.driver.fence.command import CommandFence
from ucloud.driver.fence.fake import FakeFence
from ucloud.hostmanager.manager import GRACE_S, Manager
from ucloud.model.decision import Decision
from ucloud.model.host import Alive
from ucloud.store.journal import Journal

TTL_S = 2.0


class Site:
    """A cloud of this many hosts, all of which live, each with a VM."""

    def __init__(self, hosts: int = 3, pool_fence: str = "same-kernel") -> None:
        self.hosts = [f"host-{number}" for number in range(1, hosts + 1)]
        self.world = World(pool("shared", shared=True, fence=pool_fence))
        for host in self.hosts:
            self.world.put(*living(host), manifest(f"vm-{host}", host, disks=(on("shared"),)))
        self.clock, self.hands = HandClock(), FakeFence()
        self.manager = self.new_manager()
        self.step()

    def new_manager(self) -> Manager:
        journal = Journal(self.world.store, "hostmanager", self.clock, 100)
        return Manager(self.clock, TTL_S, self.hands, journal, begin=lambda task: task())

    def step(self) -> list[Decision]:
        facts = self.world.facts()
        self.manager.looked(facts, leads=True)
        decisions = self.manager.decide(facts, self.clock.now_s())
        self.world.commit(decisions)
        for decision in decisions:
            self.manager.decided(facts, decision)
        return decisions

    def fall_silent(self, *hosts: str) -> None:
        self.world.delete(*(Alive.at(host) for host in hosts))

    def declared(self, for_s: int = 0) -> list[tuple[int, str]]:
        """After how many seconds each host was declared dead, of so many that pass."""
        found = []
        for second in range(for_s + 1):
            found += [(second, decision.key[6:]) for decision in self.step() if decision.verb == "declare"]
            self.clock.pass_s(1)
        return found


def test_one_host_is_declared_dead_at_once() -> None:
    site = Site()
    site.fall_silent("host-2")
    assert site.declared() == [(0, "host-2")]


def test_two_of_three_are_no_fault_of_the_network() -> None:
    site = Site()
    site.fall_silent("host-2", "host-3")
    assert site.declared() == [(0, "host-2"), (0, "host-3")]


def test_too_many_at_once_wait_a_minute_and_then_go_one_every_ten_seconds() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(100) == [(60, "host-2"), (70, "host-3"), (80, "host-4")]
    site.fall_silent("host-5")
    assert site.declared() == [(0, "host-5")], "it is over"


def test_those_that_come_back_within_that_minute_are_none() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(30) == []
    site.world.put(*(living(host)[1] for host in ("host-2", "host-4")))
    assert site.declared(60) == [(29, "host-3")]


def test_who_leads_anew_in_the_middle_waits_no_less() -> None:
    site = Site(hosts=8)
    site.fall_silent("host-2", "host-3", "host-4")
    assert site.declared(50) == []
    site.manager = site.new_manager()
    assert site.declared(60) == [(60, "host-2")]


def test_hosts_that_were_only_added_are_no_sign_of_a_fault() -> None:
    site = Site()
    site.world.put(*(living(f"host-{number}")[0] for number in range(4, 9)))
    site.manager = site.new_manager()
    site.fall_silent("host-2")
    assert site.declared() == [(0, "host-2")]


def test_when_etcd_has_not_answered_hosts_get_time_to_be_heard() -> None:
    site = Site()
    site.clock.pass_s(60)  # no look in between
    site.fall_silent("host-2")
    assert site.declared(20) == [(TTL_S + GRACE_S, "host-2")]


def test_a_fence_command_is_repeated_until_it_succeeds_and_by_the_next_leader() -> None:
    site = Site(pool_fence="command")
    site.hands.error = "no route to the file server"
    site.fall_silent("host-2")
    assert site.declared(5) == [(0, "host-2")]
    assert site.hands.cut == set()
    site.manager = site.new_manager()
    site.hands.error = ""
    site.declared(5)
    assert site.hands.cut == {("shared", "host-2")}
    assert site.world.facts().all(type(fence()))["fence/host-2"].record.proofs == {"shared": "2 was cut off shared"}


# The operator's command.


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "fence"
    file.write_text(
        f'#!/bin/sh\necho "$#:$*" >>{tmp_path}/calls\nprintf "expired\\nreally\\377"\nexit $(cat {tmp_path}/exit)\n'
    )
    file.chmod(0o700)
    (tmp_path / "exit").write_text("0")
    return file


def test_exit_0_of_the_command_is_the_proof(program: Path, tmp_path: Path) -> None:
    proof = CommandFence(str(program)).cut_off("nfs", "h1; rm -rf /", "fd00::1", "host-1")
    assert proof.startswith(f"{program} nfs h1; rm -rf /: expired")
    assert proof.endswith("(exit 0)")
    assert (tmp_path / "calls").read_text() == "4:nfs h1; rm -rf / fd00::1 host-1\n"


def test_any_other_exit_is_none(program: Path, tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("3")
    with pytest.raises(Temporary, match=r"expired.*\(exit 3\)"):
        CommandFence(str(program)).cut_off("nfs", "h1", "", "host-1")


def test_a_command_that_hangs_or_is_not_there_is_none(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o700)
    with pytest.raises(Temporary, match=r"did not end within 0\.2 s"):
        CommandFence(str(hangs), timeout_s=0.2).cut_off("nfs", "h1", "", "host-1")
    with pytest.raises(Temporary, match="No such file"):
        CommandFence(str(tmp_path / "none")).cut_off("nfs", "h1", "", "host-1")
    with pytest.raises(Temporary, match="have no .control. fence_command"):
        CommandFence("").cut_off("nfs", "h1", "", "host-1")


def test_a_command_holds_up_no_other_decision(program: Path) -> None:
    site = Site(pool_fence="command")
    tasks = list[threading.Thread]()
    site.manager = Manager(
        site.clock,
        TTL_S,
        CommandFence(str(program)),
        Journal(site.world.store, "hostmanager", site.clock, 100),
        begin=lambda task: tasks.append(threading.Thread(target=task)),
    )
    site.fall_silent("host-2")
    assert site.declared(3) == [(0, "host-2")]
    assert len(tasks) == 1, "and it is not begun again while it runs"
    for task in tasks:
        task.start()
        task.join()
    site.declared(1)
    assert "shared" in site.world.facts().all(type(fence()))["fence/host-2"].record.proofs
