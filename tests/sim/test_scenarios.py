"""Each story is played again and must give the log that it gave before. After a change that is meant:
UPDATE_GOLDEN=1 pytest tests/sim/test_scenarios.py, and read the difference as an operator would."""

import os
from pathlib import Path

import pytest

from sim.scenario import AT_ONCE, golden, names, play
from sim.sentences import SENTENCES

EXPLAINED = Path(__file__).parents[1] / "golden" / "explain"


@pytest.mark.parametrize("name", names())
def test_the_story_goes_as_before(name: str) -> None:
    before = golden(name).read_text()
    now = play(before)
    if os.environ.get("UPDATE_GOLDEN"):
        golden(name).write_text(now)
    else:
        assert now == before


def test_every_sentence_is_part_of_a_story() -> None:
    told = [*map(golden, names()), *EXPLAINED.glob("*.txt")]
    lines = [line for file in told for line in file.read_text().splitlines()]
    said = {line.removeprefix("## ").removeprefix(AT_ONCE) for line in lines if line.startswith("## ")}
    assert not [pattern.pattern for pattern, _ in SENTENCES if not any(map(pattern.fullmatch, said))]
