"""Histories in which everything must hold. UCLOUD_SIM_SECONDS gives time for new ones, which nobody has played before."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sim
from sim.campaign import failure, replay_command

SEEDS = 150
EXTRA_S = float(os.environ.get("UCLOUD_SIM_SECONDS", "0"))
FAILED = Path(sim.__path__[0]) / "failed_seeds.txt"


def failed_seeds() -> list[int]:
    lines = FAILED.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def check(seed: int) -> None:
    found = failure(seed)
    assert found is None, f"seed {seed}: {found}\nsee what happens: {replay_command(seed)}"


def test_the_same_seeds_each_time() -> None:
    for seed in range(SEEDS):
        check(seed)


@pytest.mark.parametrize("seed", failed_seeds())
def test_seeds_that_once_failed(seed: int) -> None:
    check(seed)


@pytest.mark.skipif(EXTRA_S == 0, reason="UCLOUD_SIM_SECONDS is not set")
@pytest.mark.timeout(EXTRA_S + 300)
def test_new_seeds() -> None:
    first = time.time_ns() // 1_000_000
    end_s, seed = time.monotonic() + EXTRA_S, first
    while time.monotonic() < end_s:
        check(seed)
        seed += 1
    print(f"{seed - first} new seeds from {first}")


def test_one_seed_gives_one_history() -> None:
    """Also when Python hashes text differently, as it does in every process."""
    traces = [
        subprocess.run(
            [sys.executable, "-m", "sim", "--trace", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=FAILED.parent.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
