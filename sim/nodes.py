"""The machines of the simulated cloud: each builds its daemon from the production loops, and may lose it at any moment."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from sim.clock import Instant, NodeClock
from sim.drivers import ImagePool, Images, Impatient, Machine, SimHypervisor, SimPool, network_hands
from sim.etcd import Etcd, Link
from sim.invariants import CPU_OVERCOMMIT, Invariants
from sim.process import Process
from sim.protections import Protections
from sim.store import Connection
from sim.world import Killed, World
from ucloud.base.config import DEFAULTS
from ucloud.daemon.control import LOOPS
from ucloud.driver.pool.contract import Pool
from ucloud.host.lease import Lease, timing
from ucloud.host.loop import HostLoop
from ucloud.host.network import HostNetwork
from ucloud.host.userdata import UserData
from ucloud.idempotency.decide import PERIOD_S
from ucloud.idempotency.decide import decide as sweep
from ucloud.image.loop import ImageLoop
from ucloud.loop import Loop
from ucloud.metadata import nocloud
from ucloud.model import keys
from ucloud.model.decision import Decision
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Endpoint, Inventory
from ucloud.model.secret import Secret
from ucloud.scheduler.decide import decide as place
from ucloud.scheduler.hosts import Policy
from ucloud.scheduler.report import SchedulerReport
from ucloud.store.journal import Journal
from ucloud.store.lease import LeasedKey
from ucloud.store.lock import Leadership
from ucloud.store.view import View

schedule = partial(place, policy=Policy(cpu_overcommit=CPU_OVERCOMMIT))
KEPT_EVENTS = 5  # so few that old ones go again and again
HOST_TTL_S, CONTROL_TTL_S, POWER_DOWN_S = 6.0, 4.0, 20.0
TIMING = timing(HOST_TTL_S, election_s=1.0)
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
        decide, period_s = (schedule, 10.0) if name == "scheduler" else (sweep, PERIOD_S)
        report = SchedulerReport(journal) if name == "scheduler" else None

        def watched(facts: Facts, now_s: float) -> list[Decision]:
            if decisions := decide(facts, now_s):
                store.decide()
            return self.off.rewrite(decisions)

        heeds_changes = name == "scheduler"
        return self.off.decider(name, store, view, watched, self.clock, leadership, period_s, report, heeds_changes)

    def stop(self) -> None:
        """In order, as for an upgrade: another leads at once, and may know less."""
        if self.process and not any(thread.stepping for thread in self.process.threads):
            with contextlib.suppress(Killed):
                for leadership in self._leaderships:
                    leadership.release()
            self.kill("stops in order")


class HostNode(Node):
    def __init__(self, site: Site, name: str, cpus: int, memory_mib: int) -> None:
        super().__init__(site, name)
        self.machine = Machine(self.world, name, self.invariants, self.images.pool)
        self.cpus, self.memory_mib = cpus, memory_mib
        self.has_power = True
        self.boots = 1
        self.loop: HostLoop | None = None
        self.deadline, self.beat = Instant(), Instant()

    def start(self) -> None:
        if self.has_power:
            super().start()

    def build(self) -> Process:
        process = Process(self.world, self.name, self.kill)
        store = Connection(process, self.etcd, self.link, self.invariants, "host", self.off.host_keeps)
        process.workers.submitted = store.decide
        reads = [keys.manifests(self.name), keys.statuses(self.name), keys.fence(self.name)]
        view = self.off.view(store, reads, self.clock, lambda: thread.wake())
        hypervisor, pool = SimHypervisor(process, self.machine), SimPool(process, self.machine)
        inventory = Inventory(
            host=self.name, cpus=self.cpus, memory_mib=self.memory_mib, hypervisor="fake", accel="fake", version="sim"
        )
        self.token = Secret(f"token-{self.incarnation}")
        user_data = UserData(view)
        self.network = self._network(process, user_data)
        self.loop = self.off.host_loop(
            store,
            view,
            hypervisor,
            lambda _: cast(Pool, pool),
            self.network,
            user_data,
            nocloud.files,
            process.workers,
            self.clock,
            inventory,
            Endpoint(host=self.name, url=f"http://{self.name}", token=self.token),
            POWER_DOWN_S,
            self.journal(process, "host", self.name),
            beat=lambda: self.beat.set(self.clock.boot_s()),
        )
        thread = store.thread = process.run(self.loop)
        process.workers.wake = thread.wake
        hypervisor.subscribe(thread.wake)
        process.connections.append(hypervisor.close)
        pulse = Connection(process, self.etcd, self.link, self.invariants, "lease", self.off.host_keeps)
        alive = Alive(host=self.name, boot=f"boot-{self.boots}")
        leased = LeasedKey(pulse, alive, HOST_TTL_S, self.clock, TIMING.renew_s)
        process.run(Lease(leased, self.deadline, self.beat, self.clock, TIMING))
        return process

    def _network(self, process: Process, user_data: UserData) -> HostNetwork:
        """It runs beside the host's loop, with a connection of its own."""
        store = Connection(process, self.etcd, self.link, self.invariants, "network", self.off.host_keeps)
        book = self.off.view(store, [], self.clock, lambda: thread.wake())
        journal = self.journal(process, "network", self.name)
        hands = network_hands(process, self.machine)
        network = self.off.network(self.name, DEFAULTS.network, hands, user_data, book, self.clock, journal, Impatient())
        thread = store.thread = process.run(network)
        return network

    def memories(self) -> Iterator[Mapping[str, Any]]:
        """What its daemon remembers."""
        if self.process:
            yield vars(self.loop)
            yield vars(self.network)
            yield vars(vars(self.network)["_wiring"])

    def lose_power(self) -> None:
        self.world.say(self.name, "loses power")
        self.has_power = False
        if self.process:
            self.process.end()
            self.process = None
        self.machine.lose_power()

    def boot(self) -> None:
        if not self.has_power:
            self.world.say(self.name, "boots")
            self.has_power = True
            self.boots += 1
            self.start()
