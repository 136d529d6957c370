"""Each protection is needed: the simulator finds a fault soon after it is taken away. One that it does not find would mean that
the workload is tamer than life."""

import time

import pytest

from sim.campaign import failure
from sim.protections import PROTECTIONS

CPU_S = 60.0
SEEDS = 2000


@pytest.mark.parametrize("name", PROTECTIONS)
def test_taking_it_away_is_found(name: str) -> None:
    """Within a minute of one core's work."""
    end_s = time.process_time() + CPU_S
    for seed in range(SEEDS):
        if failure(seed, name):
            return
        assert time.process_time() < end_s, f"{seed + 1} seeds without {name} found nothing"
