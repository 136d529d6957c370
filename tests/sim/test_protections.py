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
    """Within a minute of one core's work; the seeds before `found_from` found nothing when this was last measured."""
    first, end_s = PROTECTIONS[name].found_from, time.process_time() + CPU_S
    for seed in range(first, first + SEEDS):
        if failure(seed, name):
            return
        assert time.process_time() < end_s, f"{seed - first + 1} seeds without {name} found nothing"
