"""Each protection is needed: the simulator finds a fault soon after it is taken away. One that it does not find would mean that
the workload is tamer than life."""

import pytest

from sim.campaign import failure
from sim.protections import PROTECTIONS

SEEDS = 1500  # about a minute; most are found within the first few


@pytest.mark.parametrize("name", PROTECTIONS)
def test_taking_it_away_is_found(name: str) -> None:
    first = PROTECTIONS[name].found_from
    assert any(failure(seed, name) for seed in range(first, first + SEEDS)), f"{SEEDS} seeds without {name} found nothing"
