"""The machines of the simulated cloud: each builds its daemon from the production loops, and may lose it at any moment."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from sim.clock import NodeClock
from sim.drivers import ImagePool, Images, SimFence
from sim.etcd import Etcd, Link
from sim.invariants import CPU_OVERCOMMIT, Invariants
from sim.process import Process
from sim.protections import Protections
from sim.store import Connection
from sim.world import Killed, World
from ucloud.daemon.control import LOOPS
from ucloud.driver.pool.contract import Pool
from ucloud.idempotency.decide import PERIOD_S
from ucloud.idempotency.decide import decide as sweep
from ucloud.image.loop import ImageLoop
from ucloud.loop import Loop, Report
from ucloud.model.decision import Decision
from ucloud.model.facts import Facts
from ucloud.scheduler.decide import decide as place
from ucloud.scheduler.hosts import Policy
from ucloud.scheduler.report import SchedulerReport
from ucloud.store.journal import Journal
from ucloud.store.lock import Leadership
from ucloud.store.view import View

schedule = partial(place, policy=Policy(cpu_overcommit=CPU_OVERCOMMIT))
KEPT_EVENTS = 5  # so few that old ones go again and again
HOST_TTL_S, CONTROL_TTL_S = 2.0, 4.0
CRASH_LOOP = 0.15
RESTARTS_S = (0.1, 0.1, 1.0, 8.0)  # a supervisor may be quicker than the old lease is to run out, or slower


class Site(NamedTuple):
    """Where every node stands."""

    world: World
    etcd: Etcd
    invariants: Invariants
    images: Images
    off: Protections


class Node:
    """A daemon that a supervisor starts again whenever it dies, on a machine with a clock and a cable of its own."""

    def __init__(self, site: Site, name: str) -> None:
        self.world, self.etcd, self.invariants, self.images, self.off = site
        self.name = name
        self.clock, self.link = NodeClock(site.world), Link()
        self.process: Process | None = None
        self.incarnation = 0

    def start(self) -> None:
        if self.process is None:
            self.incarnation += 1
            self.world.say(self.name, f"daemon starts ({self.incarnation})")
            self.process = self.build()
            if self.world.happens(CRASH_LOOP * self.world.weather.kills):
                self.world.after(2 * self.world.chance.random(), partial(self.kill, "crashes again"))

    def build(self) -> Process:
        raise NotImplementedError

    def kill(self, how: str) -> None:
        if self.process and self.world.faulty:
            self.world.say(self.name, f"daemon {how}")
            self.process.end()
            self.process = None
            self.world.after(self.world.chance.choice(RESTARTS_S), self.start)

    def journal(self, process: Process, loop: str, writer: str) -> Journal:
        """It runs beside the loop whose events it writes, with a connection of its own."""
        store = Connection(process, self.etcd, self.link, self.invariants, loop)
        journal = Journal(store, writer, self.clock, KEPT_EVENTS, lambda: thread.wake(), self.world.chance.getrandbits)
        thread = process.run(journal)
        return journal


class ControlNode(Node):
    """All loops of the production table, made as in `ucloud.daemon.control`."""

    def build(self) -> Process:
        process = Process(self.world, f"{self.name}.{self.incarnation}", self.kill)
        self._leaderships = [self._run(process, name, prefixes) for name, (_, prefixes) in LOOPS.items()]
        return process

    def _run(self, process: Process, name: str, prefixes: tuple[str, ...]) -> Leadership:
        store = Connection(process, self.etcd, self.link, self.invariants, name, self.off.keeps)
        view = self.off.view(store, (*prefixes, f"lock/{name}"), self.clock, lambda: thread.wake())
        journal = self.journal(process, name, name)
        leadership = Leadership(store, name, process.name, CONTROL_TTL_S, self.clock, journal)
        thread = store.thread = process.run(self._loop(process, name, store, view, leadership, journal))
        return leadership

    def _loop(
        self, process: Process, name: str, store: Connection, view: View, leadership: Leadership, journal: Journal
    ) -> Loop:
        if name == "image":
            pool = cast(Pool, ImagePool(process, self.images, store.decide))
            return ImageLoop(store, view, lambda _: pool, self.clock, leadership)
        decide, period_s, report = self._decision(process, name, view, journal)

        def watched(facts: Facts, now_s: float) -> list[Decision]:
            if decisions := decide(facts, now_s):
                store.decide()
            return self.off.rewrite(decisions)

        heeds_changes = name != "idempotency"
        return self.off.decider(name, store, view, watched, self.clock, leadership, period_s, report, heeds_changes)

    def _decision(
        self, process: Process, name: str, view: View, journal: Journal
    ) -> tuple[Callable[[Facts, float], list[Decision]], float | Callable[[], float], Report | None]:
        """How this loop decides, how often, and who tells of it."""
        if name == "scheduler":
            return schedule, 10.0, SchedulerReport(journal)
        if name == "hostmanager":
            hands = SimFence(process, self.images.storage)
            manager = self.off.manager(self.clock, HOST_TTL_S, hands, journal, view.wake, hands.begin)
            return manager.decide, manager.period_s, manager
        return sweep, PERIOD_S, None

    def stop(self) -> None:
        """In order, as for an upgrade: another leads at once, and may know less."""
        if self.process and not any(thread.stepping for thread in self.process.threads):
            with contextlib.suppress(Killed):
                for leadership in self._leaderships:
                    leadership.release()
            self.kill("stops in order")
