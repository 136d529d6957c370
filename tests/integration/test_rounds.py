"""Real daemons and a real etcd, killed, frozen and restarted while people use them. See `rounds` for what happens, `checker`
for what must be so afterwards."""

import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.processes import IMAGE, PlainCloud
from tests.integration.checker import findings
from tests.integration.lab_cloud import breakable_lab
from tests.integration.people import Remembered, RememberedNetwork
from tests.integration.plain import breakable_plain
from tests.integration.rounds import Rounds
from tests.integration.stories import creates_while_apis_die, two_believe_to_lead
from ucloud.driver.hypervisor.fake import GuestDirectory, Trace
from ucloud.driver.hypervisor.reaper import LEASE_LOST
from ucloud.driver.things_file import ThingsFile
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.network import Port
from ucloud.model.record import encode

SEEDS = (1, 2, random.SystemRandom().randrange(10**6))
LAB_SEED = 25  # begins with a host that loses power
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds[PlainCloud]]:
    with breakable_plain(tmp_path_factory.mktemp("rounds")) as breakable:
        yield Rounds(breakable)


def test_500_creates_while_apis_are_killed_make_500_vms(rounds: Rounds[PlainCloud]) -> None:
    creates_while_apis_die(rounds)


def test_two_leaders_decide_nothing_twice(rounds: Rounds[PlainCloud]) -> None:
    two_believe_to_lead(rounds)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_twice_or_left_over(rounds: Rounds[PlainCloud], seed: int) -> None:
    rounds.play(seed, for_s=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nor_where_hosts_lose_power_and_cables(tmp_path: Path) -> None:
    with breakable_lab("r", tmp_path / "log") as breakable:
        Rounds(breakable).play(LAB_SEED, for_s=15)


def test_the_checker_sees_what_is_wrong(rounds: Rounds[PlainCloud]) -> None:
    vm = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
    disk = rounds.cloud.pool_dir / "disks" / vm
    first, second = (GuestDirectory(rounds.cloud.guests_dir(host)) for host in ("host-1", "host-2"))
    start = b"fake guest web epoch 1 boots 1\n"
    name = f"unique/vm/default/{'x' * 8}"
    told = [Remembered("web", vm)]
    disk.mkdir()
    first[vm], second[vm] = Trace(None, start + LEASE_LOST + start), Trace(None, start + start)
    rounds.store.commit({name: b'{"path":"%s","owner":"%s"}' % (name.encode(), vm.encode())})
    try:
        found = "\n".join(findings(rounds.cloud, rounds.store, told))
        assert f"web ({vm}) is lost" in found
        assert f"a disk of {vm} is left over" in found
        assert f"something of {vm} is left over on" in found
        assert f"{vm} was started under epoch 1 on " in found
        assert found.count(f"{vm} was started 2 times for") == 1, "one of the two had lost its lease between"
        assert f"the key {name} is left over from {vm}" in found
    finally:
        disk.rmdir()
        del first[vm], second[vm]
        rounds.store.commit(deletes=[name])


def test_the_checker_sees_what_is_wrong_with_networks(rounds: Rounds[PlainCloud]) -> None:
    """And a host's daemon mends what was changed by hand while it was away."""
    cloud, store, daemon = rounds.cloud, rounds.store, rounds.cloud.daemons["host-1"]
    with cloud.client() as client:
        network = client.create_network("checked", ipv4="172.16.0.0/24")
        vm, action = client.create_vm("checked", IMAGE, memory_mib=16, host="h1", networks=["checked"])
        told = [Remembered("checked", vm["id"], networks={"checked": "yes"})]
        assert client.wait(action, 120)["state"] == "success"
        rounds.check(told)
        daemon.kill()
        [port], gone = client.vm("checked")["ports"], "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
        entry = Port(network=network["id"], vm=gone, name="web", mac=port["mac"], ipv6=port["ipv6"], host="h1")
        claim, use = keys.unique("address", network["id"], "02:00:00:00:00:01"), keys.use("network", network["id"], gone)
        strays = {entry.key: encode(entry), **{path: encode(Unique(path=path, owner=gone)) for path in (claim, use)}}
        store.commit(strays)
        here, stray = f"{network['vni']}/{vm['id']}", f"{network['vni']}/{gone}"
        with things(cloud, "port") as ports, things(cloud, "filter") as filters, things(cloud, "name") as names:
            filters[stray], names[here] = ports.pop(here), None
        guests = GuestDirectory(cloud.guests_dir("host-1"))
        trace = guests[vm["id"]]
        assert trace.guest
        guests[vm["id"]] = replace(trace, guest=replace(trace.guest, macs=frozenset()))
        wrong = Remembered("checked", vm["id"], networks={"checked": "no"})
        found = "\n".join(findings(cloud, store, [wrong], [RememberedNetwork("other", "network-other")]))
        daemon.start()
        store.commit(deletes=[*strays])
        for sentence in (
            "the network other is lost",
            "checked is on ['checked'], and {'checked': 'no'} was answered last",
            f"2 ports on {network['id']} have {port['ipv6']}",
            f"{entry.key} should be None and is",
            *(f"the key {key} is left over" for key in (claim, use)),
            f"checked should have the interfaces {[port['mac']]}",
            f"the filter {stray} is left over on",
            f"the port {here} is missing on",
            f"the name {here} on {cloud.host_ids['host-1']} is not as it should be",
        ):
            assert sentence in found
        rounds.check(told)
        assert client.wait(client.delete_vm(vm["id"]), 120)["state"] == "success"
        client.delete_network("checked")
    rounds.check()


def things(cloud: PlainCloud, name: str) -> "closing[ThingsFile]":
    """What the first host's fake network has."""
    return closing(ThingsFile(cloud.directory / "host-1" / "run" / "network" / name))
