"""Real daemons and a real etcd, killed, frozen and restarted while people use them. See `rounds` for what happens, `checker`
for what must be so afterwards."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import PlainCloud
from tests.integration.checker import findings
from tests.integration.lab_cloud import breakable_lab
from tests.integration.people import Remembered
from tests.integration.plain import breakable_plain
from tests.integration.rounds import Rounds
from tests.integration.stories import creates_while_apis_die, two_believe_to_lead

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
    guest = rounds.cloud.guests_dir("host-1") / vm
    name = f"unique/vm/default/{'x' * 8}"
    told = [Remembered("web", vm)]
    disk.mkdir()
    guest.write_bytes(b'{"guest":null,"log":""}')
    rounds.store.commit({name: b'{"path":"%s","owner":"%s"}' % (name.encode(), vm.encode())})
    try:
        found = "\n".join(findings(rounds.cloud, rounds.store, told))
        assert f"web ({vm}) is lost" in found
        assert f"a disk of {vm} is left over" in found
        assert f"something of {vm} is left over on" in found
        assert f"the key {name} is left over from {vm}" in found
    finally:
        disk.rmdir()
        guest.unlink()
        rounds.store.commit(deletes=[name])
