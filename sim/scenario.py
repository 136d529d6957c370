"""Stories: what an operator may see happen, told by the production code itself. `python -m sim.scenario NAME` plays one.

A story is a file in sim/stories: lines with # say what it is about, lines with ## are played (sim.sentences knows them), and
what follows each is the log that it gave: seconds, who, and what. A line with * is what `vm show` says of a VM from then on.
Between two sentences two seconds pass, unless the next one begins with "at once". UPDATE_GOLDEN=1 pytest
tests/sim/test_scenarios.py writes the logs anew.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sim import death_sentences as death_sentences  # which make themselves known to the others
from sim import network_sentences as network_sentences
from sim.sentences import Director
from sim.stage import Stage

STORIES = Path(__file__).parent / "stories"
PAUSE_S = 2.0
AT_ONCE = "at once "
PASSES = re.compile(r"(\d+) s pass")


def names() -> list[str]:
    return sorted(path.stem for path in STORIES.glob("*.txt"))


def golden(name: str) -> Path:
    return STORIES / f"{name}.txt"


def play(text: str) -> str:
    """The story with the log that it gives now."""
    with performed(text) as director:
        director.stage.chapter("In the end:")
        director.tell_ending()
    return "\n".join([*(line for line in text.splitlines() if line.startswith("# ")), *director.stage.log]) + "\n"


@contextmanager
def performed(text: str) -> Iterator[Director]:
    """The cloud as it is two seconds after the last sentence, or after the time that passes there."""
    director = Director()
    stage = director.stage
    with heard(stage):
        first, *sentences = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
        perform(director, first)
        due_s = 0.0
        for said in sentences:
            due_s += 0.0 if said.startswith(AT_ONCE) else PAUSE_S
            stage.after(due_s, partial(perform, director, said))
            if pause := PASSES.fullmatch(said):
                due_s += float(pause[1]) - PAUSE_S
        stage.run_for(due_s + PAUSE_S)
        yield director
        director.close()


def perform(director: Director, said: str) -> None:
    director.stage.chapter(f"## {said}")
    if not PASSES.fullmatch(said):
        director.play(said.removeprefix(AT_ONCE))


class Voice(logging.Handler):
    """What production code logs is what a story tells: each reason in its own words."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(logging.INFO)
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        self._stage.tell(record.getMessage())


@contextmanager
def heard(stage: Stage) -> Iterator[None]:
    logger, voice = logging.getLogger("ucloud"), Voice(stage)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(voice)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(voice)
        logger.setLevel(level)
        logger.propagate = propagate


def main() -> int:
    known = names()
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        print("python -m sim.scenario NAME, which is one of:", *known, sep="\n    ")
        return 2
    print(play(golden(sys.argv[1]).read_text()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
