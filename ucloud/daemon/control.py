"""The control daemon: the loops that decide. Several may run; of each loop one leads, the others stand by."""

import threading
from collections.abc import Callable
from functools import partial

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers
from ucloud.daemon.process import open_store, process_name, stop_on_signals
from ucloud.driver.fence.command import CommandFence
from ucloud.hostmanager.manager import Manager
from ucloud.idempotency import decide as idempotency
from ucloud.image.loop import ImageLoop, in_threads
from ucloud.loop import Decider, Loop, run_all
from ucloud.scheduler.decide import decide as schedule
from ucloud.scheduler.hosts import Policy
from ucloud.scheduler.report import SchedulerReport
from ucloud.store.contract import Store
from ucloud.store.journal import KEPT_OF_LOOP, Journal
from ucloud.store.lock import Leadership
from ucloud.store.view import View

Make = Callable[[Config, Store, View, SystemClock, Leadership, Journal], Loop]


def scheduler(config: Config, store: Store, view: View, clock: SystemClock, leadership: Leadership, journal: Journal) -> Loop:
    decide = partial(schedule, policy=Policy(cpu_overcommit=config.control.cpu_overcommit))
    return Decider("scheduler", store, view, decide, clock, leadership, report=SchedulerReport(journal))


def images(config: Config, store: Store, view: View, clock: SystemClock, leadership: Leadership, journal: Journal) -> Loop:
    return ImageLoop(store, view, drivers.pool, clock, leadership, begin=in_threads(view.wake), journal=journal)


def sweeper(config: Config, store: Store, view: View, clock: SystemClock, leadership: Leadership, journal: Journal) -> Loop:
    return Decider("idempotency", store, view, idempotency.decide, clock, leadership, idempotency.PERIOD_S, heeds_changes=False)


def hostmanager(config: Config, store: Store, view: View, clock: SystemClock, leadership: Leadership, journal: Journal) -> Loop:
    manager = Manager(clock, config.host.ttl_s, CommandFence(config.control.fence_command), journal, view.wake)
    return Decider("hostmanager", store, view, manager.decide, clock, leadership, manager.period_s, report=manager)


LOOPS: dict[str, tuple[Make, tuple[str, ...]]] = {  # by the name of its lock; with the prefixes that it reads
    "scheduler": (
        scheduler,
        (
            *("vm/", "pool/", "host/", "alive/", "fence/", "status/", "placement/", "manifest/"),
            *("network/", "port/", "key/", "blob/", "use/blob/"),
        ),
    ),
    "hostmanager": (hostmanager, ("host/", "alive/", "fence/", "cluster/", "pool/", "status/", "placement/", "manifest/")),
    "image": (images, ("image/", "imagestate/", "pool/", "use/image/")),
    "idempotency": (sweeper, ("idempotency/",)),
}


def main(config: Config) -> None:
    """Run until SIGTERM."""
    stop, clock, store = stop_on_signals(), SystemClock(), open_store(config)
    loops, leaderships = list[tuple[Loop, threading.Event]](), []
    for name, (make, prefixes) in LOOPS.items():
        woken, journal_woken = threading.Event(), threading.Event()
        view = View(store, (*prefixes, f"lock/{name}"), clock, woken.set)
        journal = Journal(store, name, clock, KEPT_OF_LOOP, journal_woken.set)
        leadership = Leadership(store, name, process_name("control"), config.control.ttl_s, clock, journal)
        loops += [(make(config, store, view, clock, leadership, journal), woken), (journal, journal_woken)]
        leaderships.append(leadership)
    try:
        run_all(loops, stop)
        for leadership in leaderships:
            leadership.release()
    finally:
        store.close()
