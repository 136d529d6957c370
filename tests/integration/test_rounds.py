"""Real daemons and a real etcd, killed, frozen and restarted while people use them. See `rounds` for what happens, `checker`
for what must be so afterwards."""

import random
from collections.abc import Iterator

import pytest

from bench.processes import plain_cloud
from tests.integration.checker import findings
from tests.integration.people import Remembered
from tests.integration.rounds import SIZES, Rounds, creates_while_apis_die, two_believe_to_lead

SEEDS = (1, 2, random.SystemRandom().randrange(10**6))
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    directory = tmp_path_factory.mktemp("rounds")
    with plain_cloud(directory, **SIZES, fsync=False, log_level="info") as cloud, cloud.store() as store:
        yield Rounds(cloud, store, lambda text: print(text, flush=True))


def test_500_creates_while_apis_are_killed_make_500_vms(rounds: Rounds) -> None:
    creates_while_apis_die(rounds)


def test_two_leaders_decide_nothing_twice(rounds: Rounds) -> None:
    two_believe_to_lead(rounds)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_twice_or_left_over(rounds: Rounds, seed: int) -> None:
    rounds.play(seed, for_s=10)


def test_the_checker_sees_what_is_wrong(rounds: Rounds) -> None:
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
