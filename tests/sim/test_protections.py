"""Each protection is needed: the simulator finds a fault soon after it is taken away. One that it does not find would mean that
the workload is tamer than life."""

import pytest

from sim.campaign import failure
from sim.protections import PROTECTIONS

SEEDS = 250  # less than a minute of one core's work


@pytest.mark.parametrize("name", PROTECTIONS)
def test_taking_it_away_is_found(name: str) -> None:
    assert any(failure(seed, name) for seed in range(SEEDS)), f"{SEEDS} seeds without {name} found nothing"
