"""Real daemons of a host that is back with less memory, has another version than the one before, or has no room on its disk."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.cloud import wait_for
from bench.processes import IMAGE, MEMORY_MIB, PlainCloud, answers, plain_cloud
from tests.contract.etcd_cluster import EtcdCluster
from tests.integration.everything import traces
from tests.integration.test_lease import TTL_S, Host, dead, guests
from ucloud.client import Client
from ucloud.driver.hypervisor.fake import GuestDirectory
from ucloud.model.host import Inventory
from ucloud.model.record import decode
from ucloud.model.vm import Status

NEW_IN_STATUS = ("ha", "pools", "leased", "from")
NEW_IN_INVENTORY = ("boot", "stray_vms")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainCloud]:
    with plain_cloud(tmp_path_factory.mktemp("cloud"), hosts=1, fsync=False, log_level="info") as cloud:
        yield cloud


@pytest.fixture
def api(cloud: PlainCloud) -> Iterator[Client]:
    """VMs of one test are none of the next one's."""
    with cloud.client() as client:
        yield client
        for vm in list(client.vms()):
            client.delete_vm(vm["id"])
        wait_for(lambda: not list(client.vms()), "the end of all VMs", pause_s=0.2)


def create(api: Client, *names: str) -> list[str]:
    """Their ids; they run."""
    made = [api.create_vm(name, IMAGE, memory_mib=512) for name in names]
    assert all(api.wait(action, 60)["state"] == "success" for _, action in made)
    return [vm["id"] for vm, _ in made]


def running(api: Client) -> set[str]:
    return {vm["name"] for vm in api.vms() if vm["phase"] == "running"}


def logs(cloud: PlainCloud) -> dict[str, bytes]:
    """What each VM's guests have written: a line for every boot."""
    return {vm: trace.log for vm, trace in traces(cloud.guests_dir("host-1")).items()}


@contextmanager
def restarting(cloud: PlainCloud) -> Iterator[None]:
    """The host daemon, after what is done meanwhile."""
    daemon = cloud.daemons["host-1"]
    daemon.kill()
    yield
    daemon.start()


@contextmanager
def with_memory(cloud: PlainCloud, memory_mib: int) -> Iterator[None]:
    """The machine was off, and is back with so much."""
    file = cloud.directory / "host-1.toml"
    before = file.read_text()
    with restarting(cloud):
        file.write_text(before.replace(f"memory_mib = {MEMORY_MIB}", f"memory_mib = {memory_mib}"))
        machine = GuestDirectory(cloud.guests_dir("host-1"))
        for vm, trace in machine.items():
            machine[vm] = msgspec.structs.replace(trace, guest=None)
    try:
        yield
    finally:
        with restarting(cloud):
            file.write_text(before)


def test_a_host_that_is_back_with_less_memory_runs_what_fits(cloud: PlainCloud, api: Client) -> None:
    create(api, "first", "second", "third")
    with with_memory(cloud, 1100):
        why = "this host has 1100 MiB for guests, of which 76 are free: it needs 512"
        wait_for(lambda: [vm["error"] for vm in api.vms()].count(why) == 1, "the third to be told why it waits", pause_s=0.1)
        wait_for(lambda: len(running(api)) == 2, "the others to run", pause_s=0.1)
        (waiting,) = {"first", "second", "third"} - running(api)
        assert api.vm(waiting)["phase"] == "starting"
        assert api.host("h1")["memory_mib"] == 1100
        api.delete_vm(running(api).pop())
        wait_for(lambda: api.vm(waiting)["phase"] == "running", "it to run", pause_s=0.1)
        assert api.vm(waiting)["error"] == ""


def test_another_version_of_the_daemon_finds_what_its_predecessor_left(cloud: PlainCloud, api: Client) -> None:
    """An older one had not all of today's fields; a newer one has others."""
    [vm] = create(api, "web")
    before, host = logs(cloud), cloud.host_ids["host-1"]
    with cloud.store() as store, restarting(cloud):
        for key, new in ((Status.at(host, "vm", vm), NEW_IN_STATUS), (Inventory.at(host, "inventory"), NEW_IN_INVENTORY)):
            item = store.get(key)
            assert item
            record: dict[str, Any] = msgspec.json.decode(item.value)
            older = {name: value for name, value in record.items() if name not in new} | {"of_another_version": 1}
            store.commit({key: msgspec.json.encode(older)})
        file = cloud.guests_dir("host-1") / vm
        trace: dict[str, Any] = msgspec.json.decode(file.read_bytes())
        trace["guest"] = {name: trace["guest"][name] for name in ("vm", "epoch", "boots", "state", "macs")}
        file.write_bytes(msgspec.json.encode(trace))
    with cloud.store() as store:

        def said() -> bool:
            status, inventory = store.get(Status.at(host, "vm", vm)), store.get(Inventory.at(host, "inventory"))
            assert status
            assert inventory
            told, machine = decode(Status, status.value)[0], decode(Inventory, inventory.value)[0]
            assert (told.phase, told.crashes) == ("running", 0)
            return told.pools == ("local",) and bool(told.revisions) and machine.boot != ""

        wait_for(said, "it to say what the other one could not", pause_s=0.1)
    _, action = api.create_vm("another", IMAGE, memory_mib=16)
    assert api.wait(action, 60)["state"] == "success"
    assert before.items() <= logs(cloud).items(), "no guest was started again"


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(directory: Path) -> None:
    with (directory / "junk").open("wb", buffering=0) as junk, suppress(OSError):
        while True:
            junk.write(bytes(1024))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_full_disk_costs_no_host_its_lease_and_saves_no_guest_that_has_lost_it(tmp_path: Path) -> None:
    """It holds the directories of the daemons that see to the lease, and their logs. They are restarted meanwhile."""
    etcd = EtcdCluster(tmp_path, 1)
    try:
        wait_for(lambda: answers(etcd.endpoints[0]), "etcd", pause_s=0.1)
        with small_disk(tmp_path / "small") as small:
            host = Host(small / "h", etcd.endpoints)
            try:
                for daemon in host.daemons.values():
                    daemon.start()
                host.renews()
                with guests(host) as (leased, spared):
                    fill(small)
                    for daemon in host.daemons.values():
                        daemon.kill()
                        daemon.start()
                        host.outlives(TTL_S)
                    assert (leased.poll(), spared.poll()) == (None, None)
                    etcd.kill(0)
                    assert dead(leased)
                    assert spared.poll() is None
            finally:
                for daemon in host.daemons.values():
                    daemon.kill()
    finally:
        etcd.stop()
