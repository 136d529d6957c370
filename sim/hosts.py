"""The VM hosts of the simulated cloud: each a machine with three daemons, of which any may die or stand still by itself. The
machine may lose power, stand still as a whole, and lose sight of the store, of its disks, or of both."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

from sim.clock import Instant
from sim.drivers import Impatient, Machine, SimHypervisor, SimPool, network_hands
from sim.nodes import HOST_TTL_S, Node, Site
from sim.process import Process
from sim.store import Connection
from ucloud.base.config import DEFAULTS
from ucloud.driver.pool.contract import Pool
from ucloud.host.lease import Lease, timing
from ucloud.host.loop import HostLoop
from ucloud.host.network import HostNetwork
from ucloud.host.userdata import UserData
from ucloud.metadata import nocloud
from ucloud.model import keys
from ucloud.model.host import Alive, Endpoint, Inventory
from ucloud.model.secret import Secret
from ucloud.store.lease import LeasedKey

POWER_DOWN_S = 20.0
TIMING = timing(HOST_TTL_S, election_s=0.3)
AWAKE_S = 1.0  # a daemon that has run for so long must have done what it is there for


class Daemon(Node):
    """One of the daemons of a machine, which has its power, its clock and its cable in common with the others."""

    def __init__(self, site: Site, name: str, host: "HostNode") -> None:
        super().__init__(site, name)
        self.host, self.clock, self.link = host, host.clock, host.link
        self.since_s = 0.0  # it has run without a break

    def start(self) -> None:
        if self.host.has_power and self.host.frozen_s() <= 0:
            self.since_s = self.world.monotonic_s()
            super().start()

    def is_awake(self) -> bool:
        process = self.process
        stood_s = process.stood_until_s if process else 0.0
        return process is not None and self.world.monotonic_s() - max(self.since_s, stood_s) > AWAKE_S

    def deadman(self, process: Process) -> None:
        process.run(self.off.deadman(self.host.deadline, self.host.machine.reap, self.clock))


class LeaseNode(Daemon):
    def build(self) -> Process:
        host = self.host
        process = Process(self.world, host.name, self.kill)
        store = Connection(process, self.etcd, self.link, self.invariants, "lease", self.off.host_keeps)
        leased = LeasedKey(store, Alive(host=host.name, boot=host.boot_id), HOST_TTL_S, self.clock, TIMING.renew_s)
        process.run(Lease(leased, host.deadline, host.beat, self.clock, TIMING))
        self.deadman(process)
        return process


class DeadmanNode(Daemon):
    def build(self) -> Process:
        process = Process(self.world, self.host.name, self.kill)
        self.deadman(process)
        return process


class HostNode(Node):
    """The machine, and its host daemon. `deadline`, `beat`: what its daemons tell each other, until it boots again."""

    def __init__(self, site: Site, name: str, cpus: int, memory_mib: int) -> None:
        super().__init__(site, name)
        self.machine = Machine(self.world, name, self.invariants, self.images)
        self.cpus, self.memory_mib = cpus, memory_mib
        self.has_power = True
        self.boots = 1
        self.loop: HostLoop | None = None
        self.deadline, self.beat = Instant(), Instant()
        self.lease, self.deadman = LeaseNode(site, f"{name}-lease", self), DeadmanNode(site, f"{name}-deadman", self)
        self._frozen_until_s = 0.0

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    @property
    def daemons(self) -> tuple[Node, ...]:
        return self, self.lease, self.deadman

    def start(self) -> None:
        if self.has_power and self.frozen_s() <= 0:
            super().start()

    def build(self) -> Process:
        process = Process(self.world, self.name, self.kill)
        store = Connection(process, self.etcd, self.link, self.invariants, "host", self.off.host_keeps)
        process.workers.submitted = store.decide
        reads = [keys.manifests(self.name), keys.statuses(self.name), keys.fence(self.name)]
        view = self.off.view(store, reads, self.clock, lambda: thread.wake())
        hypervisor = SimHypervisor(process, self.machine)
        inventory = Inventory(
            host=self.name,
            cpus=self.cpus,
            memory_mib=self.memory_mib,
            hypervisor="fake",
            accel="fake",
            version="sim",
            boot=self.boot_id,
        )
        self.token = Secret(f"token-{self.incarnation}")
        user_data = UserData(view)
        self.network = self._network(process, user_data)
        self.loop = self.off.host_loop(
            store,
            view,
            hypervisor,
            lambda pool: cast(Pool, SimPool(process, self.machine, pool.name)),
            self.network,
            user_data,
            nocloud.files,
            process.workers,
            self.clock,
            inventory,
            Endpoint(host=self.name, url=f"http://{self.name}", token=self.token),
            POWER_DOWN_S,
            self.journal(process, "host", self.name),
            may_start=lambda: (self.deadline.get() or 0.0) > self.clock.boot_s(),
            beat=lambda: self.beat.set(self.clock.boot_s()),
        )
        thread = store.thread = process.run(self.loop)
        process.workers.wake = thread.wake
        hypervisor.subscribe(thread.wake)
        process.connections.append(hypervisor.close)
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

    def outlives(self, vm: str) -> bool:
        """Whether a guest of this VM lives on, though the lease ran out and somebody is there to kill it."""
        guest, deadline_s = self.machine.guests().get(vm), self.deadline.get() or 0.0
        is_over = self.clock.boot_s() - deadline_s > AWAKE_S
        return guest is not None and guest.leased and is_over and (self.lease.is_awake() or self.deadman.is_awake())

    def has_renewed(self) -> bool:
        """Its lease, so lately that a new one would have been taken by now if that had been revoked before the host manager
        began to wait."""
        left_s = (self.deadline.get() or 0.0) - self.clock.boot_s()
        return left_s > TIMING.hold_s - TIMING.renew_s - TIMING.attempt_s

    # What befalls it.

    def lose_power(self) -> None:
        self.world.say(self.name, "loses power")
        self.has_power = False
        for daemon in self.daemons:
            if daemon.process:
                daemon.process.end()
                daemon.process = None
        self.machine.lose_power()
        self.thaw()

    def boot(self) -> None:
        if not self.has_power:
            self.world.say(self.name, "boots")
            self.has_power = True
            self.boots += 1
            self.deadline, self.beat = Instant(), Instant()
            self.machine.storage.boot(self.name)
            for daemon in self.daemons:
                daemon.start()

    def freeze(self, s: float) -> None:
        """The whole machine stands still: daemons, guests, whatever they had begun to write."""
        if not self.has_power:
            return
        self.world.say(self.name, f"stands still as a whole for {s:g} s")
        self.machine.storage.frozen.add(self.name)
        self._frozen_until_s = self.world.monotonic_s() + s
        for daemon in self.daemons:
            if daemon.process:
                daemon.process.stand_still(s)
        self.world.after(s, partial(self._thaw_at, self._frozen_until_s))

    def frozen_s(self) -> float:
        return self._frozen_until_s - self.world.monotonic_s() if self.world.faulty else 0.0

    def _thaw_at(self, until_s: float) -> None:
        if self._frozen_until_s == until_s:
            self.thaw()

    def thaw(self) -> None:
        self._frozen_until_s = 0.0
        self.machine.storage.frozen.discard(self.name)
        for daemon in self.daemons:
            daemon.start()
