"""What happened to others, on a cloud of plain processes: each takes from seconds to minutes. For `test_rounds` and `soak`."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.cloud import wait_for
from bench.processes import IMAGE, PlainCloud
from bench.takeover import leading
from tests.integration.people import Remembered
from tests.integration.plain import ETCD
from tests.integration.rounds import Rounds


def creates_while_apis_die(rounds: Rounds[PlainCloud], number: int = 500, clients: int = 8) -> None:
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


def two_believe_to_lead(rounds: Rounds[PlainCloud]) -> None:
    """The leader stands still in the middle of its work, another takes over, then it wakes up and goes on."""
    people = rounds.send_people("leaders")
    for _ in range(2):
        leader = leading(rounds.cloud, rounds.store)
        rounds.say(f"{leader.name} leads and stands still")
        leader.freeze()
        try:
            wait_for(lambda: leading(rounds.cloud, rounds.store) is not leader, "another leader", pause_s=0.1)  # noqa: B023
        finally:
            leader.thaw()
        time.sleep(3)  # both are at work
    rounds.call_back(people)
    rounds.check()


def host_restarted_often(rounds: Rounds[PlainCloud], times: int = 20, every_s: float = 3.0) -> None:
    people = rounds.send_people("restarts")
    host = rounds.cloud.daemons["host-1"]
    for _ in range(times):
        host.kill()
        host.start()
        time.sleep(every_s)
    rounds.call_back(people)
    rounds.check()


def no_quorum(rounds: Rounds[PlainCloud], for_s: float = 60.0) -> None:
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


STORIES = (creates_while_apis_die, two_believe_to_lead, host_restarted_often, no_quorum)
