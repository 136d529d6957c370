"""The daemons `lease` and `deadman` as processes of their own: whichever of them dies or hangs, what must not outlive the lease
ends, and what need not end does not. And members of etcd that fail under them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.cloud import wait_for
from bench.processes import Process, answers
from tests.contract.etcd_cluster import BEAT_MS, ELECTION_MS, EtcdCluster
from ucloud.base import config
from ucloud.base.clock import SystemClock
from ucloud.base.ids import new_id
from ucloud.daemon.deadman import DEADLINE, moment
from ucloud.host.lease import timing
from ucloud.model.host import Alive
from ucloud.store.etcd import EtcdStore

TTL_S = 4.0  # twice that of production, as other tests run meanwhile
pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
LEASED, SPARED = (f"vm-01m83gv14bgg4gf68ert230py{last}" for last in "kn")


class Host:
    """One that has no host daemon, but both daemons that say and watch that it is alive."""

    def __init__(self, directory: Path, endpoints: list[str]) -> None:
        directory.mkdir()
        clock = SystemClock()
        self.id = new_id("host", clock.now_s())
        self.run_dir = directory / "run"
        self.config = config.Config(
            etcd=config.Etcd(endpoints=tuple(endpoints), election_ms=ELECTION_MS),
            host=config.Host(id=self.id, state_dir=str(directory / "state"), run_dir=str(self.run_dir), ttl_s=TTL_S),
        )
        file = directory / "host.toml"
        file.write_text(config.to_toml(self.config))
        command = [sys.executable, "-m", "ucloud.daemon.main", "daemon"]
        self.daemons = {
            kind: Process(kind, [*command, kind, "--config", str(file)], directory / f"{kind}.log")
            for kind in ("lease", "deadman")
        }
        self._deadline, self._clock = moment(self.config, DEADLINE), clock

    def renews(self) -> None:
        """Wait until it has done so from now on."""
        now_s = self._clock.boot_s()
        hold_s = timing(TTL_S, ELECTION_MS / 1000).hold_s
        wait_for(lambda: (self._deadline.get() or 0.0) > now_s + hold_s, "a renewal", pause_s=0.05)

    def outlives(self, s: float) -> None:
        """Wait until it has renewed its lease for so long."""
        until_s = self._clock.boot_s() + s
        while self._clock.boot_s() < until_s:
            self.renews()


@contextmanager
def site(directory: Path, *, members: int, hosts: int) -> Iterator[tuple[EtcdCluster, EtcdStore, list[Host]]]:
    """Every host asks a member of its own first, and has renewed its lease once."""
    with ExitStack() as stack:
        etcd = EtcdCluster(directory, members, options={"heartbeat-interval": BEAT_MS, "election-timeout": ELECTION_MS})
        stack.callback(etcd.stop)
        for endpoint in etcd.endpoints:
            wait_for(lambda endpoint=endpoint: answers(endpoint), f"the member at {endpoint}", pause_s=0.1)  # type: ignore[misc]
        store = EtcdStore(etcd.endpoints, SystemClock())
        stack.callback(store.close)
        all = [Host(directory / f"h{n}", etcd.endpoints[n:] + etcd.endpoints[:n]) for n in range(hosts)]
        for host in all:
            for daemon in host.daemons.values():
                daemon.start()
                stack.callback(daemon.kill)
        for host in all:
            host.renews()
        yield etcd, store, all


@contextmanager
def guest(run_dir: Path, vm: str, *, spared: bool) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is recognised as a guest, as long as nobody looks closer."""
    directory = run_dir / "vm" / vm
    directory.mkdir(parents=True)
    if spared:
        (directory / "spared").touch()
    words = ["sleeper", "600", "qemu", "-name", vm, "-smbios", "type=11,value=ucloud-epoch=1,value=ucloud-boots=1"]
    script = "import signal; signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", script, *words], cwd=directory)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def guests(host: Host) -> Iterator[tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]]:
    with guest(host.run_dir, LEASED, spared=False) as leased, guest(host.run_dir, SPARED, spared=True) as spared:
        yield leased, spared


def dead(process: "subprocess.Popen[bytes]") -> bool:
    return process.wait(timeout=60) == -9


@pytest.mark.parametrize("end", ["kill", "freeze"])
@pytest.mark.parametrize("victim", ["lease", "deadman"])
def test_each_is_the_others_heir(tmp_path: Path, victim: str, end: str) -> None:
    with site(tmp_path, members=1, hosts=1) as (etcd, store, (host,)), guests(host) as (leased, spared):
        getattr(host.daemons[victim], end)()
        if victim == "deadman":
            host.outlives(TTL_S)
            assert leased.poll() is None, "nobody had to die of that"
            etcd.freeze(0)
        assert dead(leased)
        assert spared.poll() is None
        etcd.kill(0)
        etcd.start(0)
        wait_for(lambda: answers(etcd.endpoints[0]), "etcd to be back", pause_s=0.1)
        if victim == "lease":
            wait_for(lambda: store.get(Alive.at(host.id)) is None, "the end of the lease", pause_s=0.1)
        assert spared.poll() is None


def test_what_begins_without_a_lease_ends_until_there_is_one(tmp_path: Path) -> None:
    with site(tmp_path, members=1, hosts=1) as (etcd, store, (host,)):
        etcd.kill(0)
        with guests(host) as (leased, spared):
            assert dead(leased)
            with guest(host.run_dir, f"{LEASED[:-1]}0", spared=False) as another:
                assert dead(another)
            etcd.start(0)
            host.renews()
            with guest(host.run_dir, f"{LEASED[:-1]}1", spared=False) as heard:
                host.outlives(TTL_S)
                assert heard.poll() is None
            assert spared.poll() is None


def test_restarts_of_both_kill_nobody(tmp_path: Path) -> None:
    with site(tmp_path, members=1, hosts=1) as (_, store, (host,)), guests(host) as both:
        born = born_at(store)
        for daemon in [*host.daemons.values()] * 2:
            daemon.kill()
            daemon.start()
            host.outlives(TTL_S)
        assert [process.poll() for process in both] == [None, None]
        assert born_at(store) == born


def test_a_member_of_etcd_that_fails_costs_no_host_its_lease(tmp_path: Path) -> None:
    """The leader or another one; killed, or silent at once like a machine without power, which later boots."""
    with site(tmp_path, members=3, hosts=3) as (etcd, store, hosts), ExitStack() as stack:
        born = born_at(store)
        all = [process for host in hosts for process in stack.enter_context(guests(host))]
        for end in (etcd.kill, etcd.freeze):
            for is_leader in (True, False):
                victim = next(index for index, member in enumerate(store.members()) if member.leads is is_leader)
                end(victim)
                all_outlive(hosts, TTL_S)
                etcd.kill(victim)
                etcd.start(victim)
                wait_for(lambda: all_answer(etcd), "all members of etcd", pause_s=0.1)
                assert born_at(store) == born, f"after {end.__name__} of member {victim}, leader: {is_leader}"
        assert [process.poll() for process in all] == [None] * 6


def test_a_leader_of_etcd_that_stood_still_and_goes_on_costs_nobody_a_guest(tmp_path: Path) -> None:
    """It may end leases that were renewed with its successor: who finds that out takes a new one, long before its deadline."""
    with site(tmp_path, members=3, hosts=3) as (etcd, store, hosts), ExitStack() as stack:
        all = [process for host in hosts for process in stack.enter_context(guests(host))]
        for _ in range(3):
            victim = next(index for index, member in enumerate(store.members()) if member.leads)
            etcd.freeze(victim)
            all_outlive(hosts, TTL_S)
            etcd.thaw(victim)
            all_outlive(hosts, TTL_S / 2)
            wait_for(lambda: len(born_at(store)) == len(hosts), "all heartbeats", pause_s=0.1)
        assert [process.poll() for process in all] == [None] * 6


def all_outlive(hosts: list[Host], s: float) -> None:
    hosts[0].outlives(s)
    for host in hosts:
        host.renews()


def all_answer(etcd: EtcdCluster) -> bool:
    return all(answers(endpoint) for endpoint in etcd.endpoints)


def born_at(store: EtcdStore) -> dict[str, int]:
    """A key that was gone in between has another revision."""
    return {item.key: item.create_revision for item in store.list(Alive.prefix).items}
