"""A real etcd that is full, loses its leader in the middle of commits, or is slow; and daemons whose clocks are wrong. What the
API says meanwhile, what goes on, and that everything converges afterwards."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from bench.cloud import wait_for
from bench.processes import IMAGE, PlainCloud, Process, running
from bench.takeover import leading
from tests.integration.clouds import Breakable
from tests.integration.everything import traces
from tests.integration.people import Remembered
from tests.integration.plain import ETCD, bugs
from tests.integration.rounds import Rounds
from tests.integration.slow_proxy import SlowProxy, slow_proxy
from ucloud.model.host import Reconciled
from ucloud.store.etcd import EtcdStore

QUOTA_BYTES = 32 << 20
JUNK = "/junk/"
DELAY_S = 1.0
PATIENT_TTL_S, WATCHED_S = 6.0, 7.0
# Not time.time itself: gRPC for Python takes its deadlines from that, and measures them by the system's clock.
WRONG_CLOCK = """
import sys
from ucloud.base.clock import SystemClock
from ucloud.daemon.main import main
now_s, fast_s = SystemClock.now_s, float(sys.argv.pop(1))
SystemClock.now_s = lambda clock: now_s(clock) + fast_s
main()
"""
pytestmark = pytest.mark.timeout(300)


HOST_TTL_S = 30.0  # hosts are not to be missed while each call takes a second


class FaultyCloud(PlainCloud):
    """proxies: what its daemons take for the members of etcd."""

    proxies: list[SlowProxy]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyCloud]:
    directory = tmp_path_factory.mktemp("faults")
    cloud = FaultyCloud(directory, hosts=3, apis=2, controls=2, fsync=False, log_level="info", quota_bytes=QUOTA_BYTES)
    with ExitStack() as stack:
        cloud.host_ttl_s = HOST_TTL_S
        cloud.proxies = [stack.enter_context(slow_proxy(url)) for url in cloud.endpoints]
        cloud.endpoints = [proxy.url for proxy in cloud.proxies]
        stack.enter_context(running(cloud))
        yield cloud


@pytest.fixture
def rounds(cloud: FaultyCloud) -> Iterator[Rounds[FaultyCloud]]:
    """VMs of one test are none of the next one's."""
    with cloud.store() as store:
        yield Rounds(Breakable(cloud, store, [], lambda: bugs(cloud)))
        with cloud.client() as client:
            for vm in list(client.vms()):
                client.delete_vm(vm["id"])
            wait_for(lambda: not list(client.vms()), "the end of all VMs", pause_s=0.2)


def create(cloud: PlainCloud, count: int, name: str) -> list[Remembered]:
    """All at once, by several clients who are patient."""

    def create_some(first: int) -> list[Remembered]:
        with cloud.client(patience_s=120) as client:
            assert client.is_ready()
            names = [f"{name}-{number}" for number in range(first, count, 5)]
            return [Remembered(each, client.create_vm(each, IMAGE, memory_mib=16)[0]["id"]) for each in names]

    with ThreadPoolExecutor(5) as pool:
        return [vm for some in pool.map(create_some, range(5)) for vm in some]


def etcdctl(cloud: PlainCloud, *arguments: str, text: str = "", deadline_s: int = 20) -> str:
    command = ["etcdctl", f"--endpoints={','.join(cloud.etcd.endpoints)}", f"--command-timeout={deadline_s}s", *arguments]
    return subprocess.run(command, input=text, env={"ETCDCTL_API": "3"}, capture_output=True, text=True, check=True).stdout


def pids(cloud: PlainCloud) -> dict[str, int]:
    return {name: process.pid for name, process in cloud.daemons.items()}


def test_a_full_etcd(rounds: Rounds[FaultyCloud]) -> None:
    cloud = rounds.cloud
    told = create(cloud, 6, "before")
    rounds.check(told)
    before, guests = pids(cloud), guests_of(cloud)
    fill(cloud)
    cloud.kill("host-1")  # one that starts now cannot say that it is alive
    cloud.start("host-1")
    before["host-1"] = cloud.daemons["host-1"].pid
    for url in cloud.urls:
        answer = httpx.post(f"{url}/v1/vms", json={"name": "no", "image": IMAGE, "memory_mib": 16}, timeout=60, trust_env=False)
        assert answer.status_code == 503
        assert "etcd takes no more writes: it is full" in answer.json()["error"]["message"]
        assert "Retry-After" in answer.headers
    with cloud.client() as client:
        assert [vm["phase"] for vm in client.vms()] == ["running"] * 6
    assert guests_of(cloud) == guests
    make_room(cloud)
    told += create(cloud, 6, "after")
    rounds.check(told)
    assert guests.items() <= guests_of(cloud).items()
    assert pids(cloud) == before  # nobody ended, not even to be started again


def guests_of(cloud: PlainCloud) -> dict[str, object]:
    return {vm: trace.guest for name in cloud.host_ids for vm, trace in traces(cloud.guests_dir(name)).items()}


def logs_of(cloud: PlainCloud) -> dict[str, bytes]:
    """What the guests of each VM have written: a line for every boot."""
    return {vm: trace.log for name in cloud.host_ids for vm, trace in traces(cloud.guests_dir(name)).items()}


def fill(cloud: PlainCloud) -> None:
    number = 0
    while "NOSPACE" not in etcdctl(cloud, "alarm", "list"):
        for size in (1 << 20, 1 << 10):  # the last gaps too
            with suppress(subprocess.CalledProcessError):
                etcdctl(cloud, "put", f"{JUNK}{number}", text="x" * size)
        number += 1


def make_room(cloud: PlainCloud) -> None:
    """As an operator does."""
    etcdctl(cloud, "del", "--prefix", JUNK)
    status = json.loads(etcdctl(cloud, "endpoint", "status", "-w", "json"))
    etcdctl(cloud, "compact", "--physical", str(status[0]["Status"]["header"]["revision"]))
    etcdctl(cloud, "defrag")
    etcdctl(cloud, "alarm", "disarm")
    assert "NOSPACE" not in etcdctl(cloud, "alarm", "list")


def test_the_leader_of_etcd_dies_in_the_middle_of_50_creates(rounds: Rounds[FaultyCloud]) -> None:
    cloud = rounds.cloud
    with ThreadPoolExecutor(1) as pool, cloud.client() as client:
        creating = pool.submit(create, cloud, 50, "many")
        wait_for(lambda: len(list(client.vms())) >= 5, "the first VMs")
        assert not creating.done()
        leader = leader_of_etcd(cloud)
        cloud.kill(leader)
        told = creating.result()
        cloud.start(leader)
    assert len({vm.id for vm in told}) == 50
    rounds.check(told)


def leader_of_etcd(cloud: PlainCloud) -> str:
    told = [member["Status"] for member in json.loads(etcdctl(cloud, "endpoint", "status", "-w", "json"))]
    leading = [name for name, status in zip(ETCD, told, strict=True) if status["leader"] == status["header"]["member_id"]]
    assert len(leading) == 1
    return leading[0]


def test_a_slow_etcd(rounds: Rounds[FaultyCloud]) -> None:
    """Where each call takes 1 s, getting a lock takes 2 s: a lease of 2 s is over by then, though what the short-lived leaders
    decide is right and gets done. Where leases live longer, leaders stay."""
    cloud = rounds.cloud
    with slow(cloud):
        told = create(cloud, 10, "slow")
        rounds.check(told)
        with control_ttl(cloud, PATIENT_TTL_S):
            told += create(cloud, 5, "patient")
            rounds.check(told)
            wait_for(lambda: leaders_stay(rounds.store, WATCHED_S), "leaders that stay", deadline_s=60)
    rounds.check(told + create(cloud, 5, "fast"))


@contextmanager
def control_ttl(cloud: FaultyCloud, ttl_s: float) -> Iterator[None]:
    before_s = cloud.control_ttl_s
    restart_control(cloud, ttl_s)
    try:
        yield
    finally:
        restart_control(cloud, before_s)


def restart_control(cloud: FaultyCloud, ttl_s: float) -> None:
    cloud.control_ttl_s = ttl_s
    for number, process in enumerate(cloud.kind("control"), 1):
        process.kill()
        cloud.add("control", number)


@contextmanager
def slow(cloud: FaultyCloud) -> Iterator[None]:
    for proxy in cloud.proxies:
        proxy.delay_s = DELAY_S
    try:
        yield
    finally:
        for proxy in cloud.proxies:
            proxy.delay_s = 0.0


def leaders_stay(store: EtcdStore, for_s: float) -> bool:
    """Renewing a lock leaves its record as it is."""
    before = store.list("lock/").items
    time.sleep(for_s)
    return len(before) > 0 and store.list("lock/").items == before


@pytest.mark.parametrize("fast_s", [3600.0, -3600.0])
def test_clocks_an_hour_off(rounds: Rounds[FaultyCloud], fast_s: float) -> None:
    """Of a host and of a control process. Only for people do records hold the time of day: no lease depends on it, so no host
    is declared dead and no guest ends."""
    cloud = rounds.cloud
    told = create(cloud, 6, "before")
    rounds.check(told)
    before = logs_of(cloud)
    honest = {name: cloud.daemons[name] for name in ("host-1", "lease-1", "control-1")}
    for name, process in honest.items():
        process.kill()
        kind, file = name.partition("-")[0], cloud.directory / f"{name}.toml"
        command = [sys.executable, "-c", WRONG_CLOCK, str(fast_s), "daemon", kind, "--config", str(file)]
        cloud.daemons[name] = Process(name, command, process.log)
        cloud.daemons[name].start()
    try:
        cloud.daemons["control-2"].kill()
        wait_for(lambda: leading(cloud, rounds.store) is cloud.daemons["control-1"], "the one with the wrong clock to lead")
        told += create(cloud, 6, "wrong")
        cloud.daemons["control-2"].start()
        rounds.check(told)
        assert before.items() <= logs_of(cloud).items()
        assert [name for name, id in cloud.host_ids.items() if rounds.store.get(Reconciled.at(id, "reconciled"))] == []
    finally:
        for name, process in honest.items():
            cloud.daemons[name].kill()
            cloud.daemons[name] = process
            process.start()
