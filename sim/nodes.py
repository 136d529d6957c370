"""The machines of the simulated cloud: each builds its daemon from the production loops, and may lose it at any moment."""

import contextlib
from functools import partial
from typing import cast

from sim.drivers import Machine, SimHypervisor, SimPool
from sim.invariants import Invariants
from sim.process import Process
from sim.protections import Protections
from sim.store import Connection
from sim.world import Killed, World
from ucloud.daemon.control import LOOPS
from ucloud.driver.pool.contract import Pool
from ucloud.host.loop import Heartbeat, HostLoop
from ucloud.model import keys
from ucloud.model.host import Alive, Endpoint, Inventory, Secret
from ucloud.scheduler.decide import decide
from ucloud.store.lease import LeasedKey
from ucloud.store.lock import Leadership
from ucloud.store.memory import MemoryStore

READS = (*LOOPS["scheduler"][1], "lock/scheduler")
HOST_TTL_S, CONTROL_TTL_S, POWER_DOWN_S = 6.0, 4.0, 20.0
CRASH_LOOP = 0.15
RESTARTS_S = (0.1, 0.1, 1.0, 8.0)  # a supervisor may be quicker than the old lease is to run out, or slower


class Node:
    """A daemon that a supervisor starts again whenever it dies."""

    def __init__(self, world: World, store: MemoryStore, invariants: Invariants, off: Protections, name: str) -> None:
        self.world, self.store, self.invariants, self.off, self.name = world, store, invariants, off, name
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


class ControlNode(Node):
    def build(self) -> Process:
        process = Process(self.world, f"{self.name}.{self.incarnation}", self.kill)
        store = Connection(process, self.store, self.invariants, self.off.keeps)
        view = self.off.view(store, READS, self.world, lambda: thread.wake())
        self._leadership = Leadership(store, "scheduler", process.name, CONTROL_TTL_S, self.world)
        loop = self.off.decider("scheduler", store, view, decide, self.world, self._leadership)
        thread = process.run(loop)
        return process

    def stop(self) -> None:
        """In order, as for an upgrade: another leads at once, and may know less."""
        if self.process and not self.process.threads[0].stepping:
            with contextlib.suppress(Killed):
                self._leadership.release()
            self.kill("stops in order")


class HostNode(Node):
    def __init__(
        self, world: World, store: MemoryStore, invariants: Invariants, off: Protections, name: str, memory_mib: int
    ) -> None:
        super().__init__(world, store, invariants, off, name)
        self.machine = Machine(world, name, invariants)
        self.memory_mib = memory_mib
        self.has_power = True
        self.boots = 1
        self.loop: HostLoop | None = None

    def start(self) -> None:
        if self.has_power:
            super().start()

    def build(self) -> Process:
        process = Process(self.world, self.name, self.kill)
        store = Connection(process, self.store, self.invariants, self.off.host_keeps)
        reads = [keys.manifests(self.name), keys.statuses(self.name), keys.fence(self.name)]
        view = self.off.view(store, reads, self.world, lambda: thread.wake())
        hypervisor, pool = SimHypervisor(process, self.machine), SimPool(process, self.machine)
        token = Secret(f"token-{self.incarnation}")
        self.loop = self.off.host_loop(
            store,
            view,
            hypervisor,
            lambda _: cast(Pool, pool),
            process.workers,
            self.world,
            Inventory(host=self.name, cpus=4, memory_mib=self.memory_mib, hypervisor="fake", accel="fake", version="sim"),
            Endpoint(host=self.name, url=f"http://{self.name}", token=token),
            POWER_DOWN_S,
        )
        thread = process.run(self.loop)
        process.workers.wake = thread.wake
        hypervisor.subscribe(thread.wake)
        process.connections.append(hypervisor.close)
        leased = LeasedKey(store, Alive(host=self.name, boot=f"boot-{self.boots}"), HOST_TTL_S, self.world)
        process.run(Heartbeat(leased, leased.renew_s))
        return process

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
