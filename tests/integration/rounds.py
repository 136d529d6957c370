"""Rounds of faults on a cloud of real processes while people use it; then everything is healed and compared.

A round is a seed: it says which faults come, and what people ask for. (When exactly things happen is up to the machine, so a
seed makes a finding likely again, not certain.) `test_rounds.py` plays short ones, `soak` as many as there is time for.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic

from bench.cloud import wait_for
from tests.integration.checker import findings
from tests.integration.clouds import Breakable, C
from tests.integration.hail import Hail
from tests.integration.people import Person, Remembered, still_running, summary
from ucloud.base.errors import Temporary

PEOPLE, ROUND_S = 3, 20.0
HEAL_S = 180.0


def print_line(text: str) -> None:
    print(text, flush=True)


class Rounds(Generic[C]):
    """All that happens to one cloud; `people` remember everything since it began."""

    def __init__(self, breakable: Breakable[C], say: Callable[[str], None] = print_line) -> None:
        self.cloud, self.store, self.say = breakable.cloud, breakable.store, say
        self._faults, self._bugs = breakable.faults, breakable.bugs
        self.people: list[Person] = []

    def play(self, seed: int, for_s: float = ROUND_S) -> None:
        """Raises AssertionError with what was found."""
        self.say(f"round {seed}")
        people = self.send_people(f"{seed}")
        hail = Hail(self._faults, f"{seed}", self.say)
        try:
            hail.fall(for_s)
        finally:
            hail.end()
            self.call_back(people)
        self.check()

    def send_people(self, seed: str) -> list[Person]:
        people = [Person(f"p{len(self.people) + n}", self.cloud.urls, f"{seed} {n}") for n in range(PEOPLE)]
        self.people += people
        return people

    def call_back(self, people: Sequence[Person]) -> None:
        for person in people:
            person.end()
        self.say(summary(people))

    def check(self, told: Sequence[Remembered] = ()) -> None:
        """Nobody asks for anything any more and everything is healed: what was asked for comes true, and nothing else."""
        told = [*told, *(vm for person in self.people for vm in person.vms)]
        networks = [network for person in self.people for network in person.networks]
        found: list[str] = []

        def is_well() -> bool:
            with suppress(Temporary), self.cloud.client() as client:
                found[:] = still_running(client, self.people) or findings(self.cloud, self.store, told, networks)
                return not found
            return False

        with suppress(TimeoutError):
            wait_for(is_well, "a cloud that is well", pause_s=0.5, deadline_s=HEAL_S)
        found += self._bugs()
        assert not found, "\n".join(found)
