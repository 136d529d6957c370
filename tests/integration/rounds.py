"""Rounds of faults on a cloud of real processes while people use it; then everything is healed and compared.

A round is a seed: it says which faults come, and what people ask for. (When exactly things happen is up to the machine, so a
seed makes a finding likely again, not certain.) `test_rounds.py` plays short ones, `script/soak` as many as there is time for:
`python -m tests.integration.rounds SECONDS [--seed N] [--stories]`.
"""

import argparse
import heapq
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from bench.cloud import wait_for
from bench.processes import IMAGE, PlainCloud, Process, plain_cloud
from bench.takeover import leading
from tests.integration.checker import findings
from tests.integration.people import Person, Remembered, still_running, summary
from ucloud.base.errors import Temporary
from ucloud.store.etcd import EtcdStore

SIZES = {"hosts": 3, "apis": 2, "controls": 2}
PEOPLE, ROUND_S = 3, 20.0
HEAL_S = 180.0
ETCD = ("etcd-1", "etcd-2", "etcd-3")


class Hail:
    """Faults by chance. Of etcd a majority lives, but for short spells without one."""

    def __init__(self, cloud: PlainCloud, seed: str, say: Callable[[str], None]) -> None:
        self._cloud, self._say = cloud, say
        self._chance = random.Random(seed)
        self._hurt: set[str] = set()
        self._due: list[tuple[float, str, str]] = []  # when, what heals, whom

    def fall(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            self._heal_until(time.monotonic())
            self._strike()
            time.sleep(self._chance.uniform(0.1, 1.0))
        self.end()

    def end(self) -> None:
        """Whatever was hurt is healed."""
        self._heal_until(float("inf"))

    def _strike(self) -> None:
        names = [name for name in sorted(self._cloud.daemons) if name not in self._hurt]
        members = [] if self._hurt.intersection(ETCD) else list(ETCD)
        kind = self._chance.choice(("kill", "kill", "freeze", "stop", "worker", "etcd", "etcd", "quorum"))
        after_s = self._chance.choice((0.0, 0.5, 2.0, 5.0))
        if kind == "quorum" and members and self._chance.random() < 0.3:
            for name in self._chance.sample(members, 2):
                self._hit("freeze", name, min(after_s, 3.0))
        elif kind == "etcd" and members:
            self._hit(self._chance.choice(("kill", "freeze")), self._chance.choice(members), after_s)
        elif kind in ("kill", "freeze", "stop", "worker") and names:
            # An API that stands still keeps its clients waiting, as no one else will take their request.
            self._hit(kind, self._chance.choice(names), after_s)

    def _hit(self, kind: str, name: str, after_s: float) -> None:
        self._say(f"{kind} {name}, for {after_s:g} s")
        if kind == "worker":
            kill_children(self._cloud.daemons[name])
            return
        self._hurt.add(name)
        if kind == "freeze":
            self._cloud.freeze(name)
        elif kind == "stop":
            self._cloud.daemons[name].stop()
        else:
            self._cloud.kill(name)
        heapq.heappush(self._due, (time.monotonic() + after_s, "thaw" if kind == "freeze" else "start", name))

    def _heal_until(self, now_s: float) -> None:
        while self._due and self._due[0][0] <= now_s:
            _, heal, name = heapq.heappop(self._due)
            self._say(f"{heal} {name}")
            self._cloud.thaw(name) if heal == "thaw" else self._cloud.start(name)
            self._hurt.discard(name)


def kill_children(process: Process) -> None:
    """Of an API its worker; the others have none."""
    for pid in process.group():
        if pid != process.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Rounds:
    """All that happens to one cloud; `people` remember everything since it began."""

    def __init__(self, cloud: PlainCloud, store: EtcdStore, say: Callable[[str], None] = lambda text: None) -> None:
        self.cloud, self.store, self.say = cloud, store, say
        self.people: list[Person] = []

    def play(self, seed: int, for_s: float = ROUND_S) -> None:
        """Raises AssertionError with what was found."""
        self.say(f"round {seed}")
        people = self.send_people(f"{seed}")
        hail = Hail(self.cloud, f"{seed}", self.say)
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
        found: list[str] = []

        def is_well() -> bool:
            with suppress(Temporary), self.cloud.client() as client:
                found[:] = still_running(client, self.people) or findings(self.cloud, self.store, told)
                return not found
            return False

        with suppress(TimeoutError):
            wait_for(is_well, "a cloud that is well", pause_s=0.5, deadline_s=HEAL_S)
        found += bugs(self.cloud)
        assert not found, "\n".join(found)


def bugs(cloud: PlainCloud) -> list[str]:
    """What daemons said that they never should."""
    found = [f"{name} ended with status {p.exit_status}" for name, p in cloud.daemons.items() if not p.runs]
    for name, process in cloud.daemons.items():
        text = process.log.read_text(errors="replace")
        if "Traceback" in text:
            found.append(f"{name} has a bug:\n{text[text.index('Traceback') :][:4000]}")
    return found


def creates_while_apis_die(rounds: Rounds, number: int = 500, clients: int = 8) -> None:
    """Every create is answered, and each made one VM, though an API process is killed every moment."""
    told: list[Remembered] = []
    numbers = iter(range(number))
    lock = threading.Lock()

    def create() -> None:
        with rounds.cloud.client(patience_s=120) as client:
            assert client.is_ready()
            while True:
                with lock:
                    name = f"many-{next(numbers, number)}"
                if name == f"many-{number}":
                    return
                vm, _ = client.create_vm(name, IMAGE, memory_mib=16)
                told.append(Remembered(name, vm["id"]))

    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(create) for _ in range(clients)]
        apis = itertools.cycle(rounds.cloud.kind("api"))
        while not all(work.done() for work in working):
            process = next(apis)  # by this thread: daemons end with the thread that started them
            process.kill()
            process.start()
            time.sleep(1.0)
        for work in working:
            work.result()
    assert len({vm.id for vm in told}) == number
    rounds.check(told)
    with rounds.cloud.client() as client:
        for vm in told:
            vm.actions.append(client.delete_vm(vm.id)["id"])
            vm.deleted = "yes"
    rounds.check(told)


def two_believe_to_lead(rounds: Rounds) -> None:
    """The leader stands still in the middle of its work, another takes over, then it wakes up and goes on."""
    people = rounds.send_people("leaders")
    for _ in range(2):
        leader = leading(rounds.cloud, rounds.store)
        rounds.say(f"{leader.name} leads and stands still")
        leader.freeze()
        try:
            wait_for(lambda old=leader: leading(rounds.cloud, rounds.store) is not old, "another leader", pause_s=0.1)
        finally:
            leader.thaw()
        time.sleep(3)  # both are at work
    rounds.call_back(people)
    rounds.check()


def host_restarted_often(rounds: Rounds, times: int = 20, every_s: float = 3.0) -> None:
    people = rounds.send_people("restarts")
    host = rounds.cloud.daemons["host-1"]
    for _ in range(times):
        host.kill()
        host.start()
        time.sleep(every_s)
    rounds.call_back(people)
    rounds.check()


def no_quorum(rounds: Rounds, for_s: float = 60.0) -> None:
    people = rounds.send_people("quorum")
    time.sleep(3)
    rounds.say(f"two members of etcd stand still for {for_s:g} s")
    for name in ETCD[:2]:
        rounds.cloud.freeze(name)
    time.sleep(for_s)
    for name in ETCD[:2]:
        rounds.cloud.thaw(name)
    rounds.call_back(people)
    rounds.check()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.rounds", description=__doc__.split("\n\n")[0])
    parser.add_argument("seconds", type=float, help="for about how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first round")
    parser.add_argument("--stories", action="store_true", help="first those that take minutes")
    options = parser.parse_args()
    until_s = time.monotonic() + options.seconds
    start_s = time.monotonic()
    directory = tempfile.mkdtemp(prefix="ucloud-soak-")
    seed = options.seed
    with plain_cloud(Path(directory), **SIZES, fsync=False, log_level="info") as cloud, cloud.store() as store:
        rounds = Rounds(cloud, store, lambda text: print(f"{time.monotonic() - start_s:7.1f} s: {text}", flush=True))
        stories = [creates_while_apis_die, two_believe_to_lead, host_restarted_often, no_quorum]
        try:
            for story in stories if options.stories else ():
                rounds.say(story.__name__.replace("_", " "))
                story(rounds)
            while time.monotonic() < until_s:
                rounds.play(seed)
                seed += 1
        except AssertionError as error:
            print(f"FOUND in round {seed}, logs are in {directory}:\n{error}", flush=True)
            return 1
    shutil.rmtree(directory)
    print(f"rounds {options.seed} to {seed - 1}: nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
