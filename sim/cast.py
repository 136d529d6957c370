"""The daemons of a story: production loops and the production API on fakes. They die and start again as the story says."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from sim.clock import Instant
from sim.drivers import Impatient
from sim.process import LoopThread, Process
from sim.stage import Stage
from sim.storage import Storage
from sim.wire import Etcd, Wire
from ucloud.api.app import create_app
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.clock import SystemClock
from ucloud.base.config import DEFAULTS, Config, Network
from ucloud.base.errors import Temporary
from ucloud.daemon.control import LOOPS
from ucloud.daemon.network import fake_hands, host_network
from ucloud.driver.fence.command import CommandFence
from ucloud.driver.hypervisor.contract import GuestSpec
from ucloud.driver.hypervisor.fake import FakeHypervisor, Trace
from ucloud.driver.pool.fake import FakePool
from ucloud.host.deadman import Deadman
from ucloud.host.lease import Lease, timing
from ucloud.host.loop import HostLoop
from ucloud.host.userdata import UserData
from ucloud.hostmanager.manager import Manager
from ucloud.image.loop import ImageLoop
from ucloud.loop import Decider, Loop
from ucloud.metadata import nocloud
from ucloud.model import keys
from ucloud.model.host import Alive, Endpoint, Inventory
from ucloud.model.secret import Secret
from ucloud.store.journal import KEPT_OF_HOST, KEPT_OF_LOOP, Journal
from ucloud.store.lease import LeasedKey
from ucloud.store.lock import Leadership
from ucloud.store.view import View

CONTROL_TTL_S, HOST_TTL_S, POWER_DOWN_S = 2.0, 2.0, 20.0
TIMING = timing(HOST_TTL_S, election_s=0.3)
RESTART_S = 1.0
CPUS = 4
NETWORK = Network(vnis="100-100")  # a story has one network, whose number does not depend on chance


class Speaking:
    """A loop, or the executor of one, whose daemon is named in the log. A daemon that stands still does nothing."""

    def __init__(self, daemon: "Daemon", inner: Any) -> None:
        self.name = getattr(inner, "name", "")
        self._daemon, self._inner = daemon, inner

    def step(self) -> float:
        stage, daemon = self._daemon.stage, self._daemon
        if stage.monotonic_s() < daemon.frozen_until_s:
            return daemon.frozen_until_s - stage.monotonic_s()
        with stage.speaking(daemon.name):
            return float(self._inner.step())

    def busy(self) -> frozenset[str]:
        return frozenset(self._inner.busy())

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        def aloud() -> None:
            with self._daemon.stage.speaking(self._daemon.name):
                work()

        self._inner.submit(vm, aloud)


class Daemon:
    """A process, and the supervisor that starts it again a second after it died."""

    def __init__(self, stage: Stage, etcd: Etcd, name: str) -> None:
        self.stage, self.etcd, self.name = stage, etcd, name
        self.process: Process | None = None
        self.starts = 0
        self.frozen_until_s = 0.0

    def start(self) -> None:
        if self.process is None:
            self.starts += 1
            self.process = Process(self.stage, f"{self.name}.{self.starts}", lambda _: None)
            self.wire = Wire(self.process, self.stage, self.etcd)
            self.build(self.process)

    def build(self, process: Process) -> None:
        raise NotImplementedError

    def run(self, process: Process, loop: Loop) -> LoopThread:
        return process.run(Speaking(self, loop))

    def stop(self) -> None:
        if self.process:
            self.process.end()
            self.process = None

    def crash(self) -> None:
        self.stop()
        self.stage.after(RESTART_S, self._restart)

    def _restart(self) -> None:
        if self.process is None:
            self.stage.tell("is started again by its supervisor", self.name)
        self.start()


class Api(Daemon):
    """Asked without HTTP. Its view is current, as the thread that keeps it so is never late here."""

    def __init__(self, stage: Stage, etcd: Etcd, pool: FakePool) -> None:
        super().__init__(stage, etcd, "api")
        self._pool = pool

    def build(self, process: Process) -> None:
        view = SharedView(self.wire, self.stage)
        self._services = Services(store=self.wire, view=view, pools=lambda _: self._pool, clock=self.stage, network=NETWORK)
        self._http = create_app(self._services).test_client()
        process.connections.append(self._services.hosts.close)

    def ask(self, method: str, path: str, headers: Mapping[str, str] = {}, **arguments: Any) -> Mapping[str, Any]:
        """The answer's body; what it says is told."""
        with self.stage.speaking(self.name):
            with suppress(Temporary):
                self._services.view.step()
            response = self._http.open(f"/v1/{path}", method=method, headers=dict(headers), **arguments)
            body: Mapping[str, Any] = response.get_json()
            error = body.get("error")
            self.stage.tell(f"answers {response.status_code}" + (f" {error['code']}: {error['message']}" if error else ""))
            return body


class Control(Daemon):
    def __init__(self, stage: Stage, etcd: Etcd, name: str, pool: FakePool) -> None:
        super().__init__(stage, etcd, name)
        self._pool = pool

    def build(self, process: Process) -> None:
        for name, (make, prefixes) in LOOPS.items():
            self._add(process, name, make, prefixes)

    def _add(self, process: Process, name: str, make: Any, prefixes: tuple[str, ...]) -> None:
        view = View(self.wire, (*prefixes, f"lock/{name}"), self.stage, lambda: thread.wake())
        journal = Journal(self.wire, name, self.stage, KEPT_OF_LOOP, lambda: journal_thread.wake())
        leadership = Leadership(self.wire, name, process.name, CONTROL_TTL_S, self.stage, journal)
        if name == "image":
            loop: Loop = ImageLoop(self.wire, view, lambda _: self._pool, self.stage, leadership)
        elif name == "hostmanager":
            manager = Manager(self.stage, HOST_TTL_S, CommandFence(""), journal, view.wake, lambda task: task())
            loop = Decider(name, self.wire, view, manager.decide, self.stage, leadership, manager.period_s, report=manager)
        else:
            loop = make(Config(), self.wire, view, cast(SystemClock, self.stage), leadership, journal)
        thread, journal_thread = self.run(process, loop), self.run(process, journal)


class Guests(FakeHypervisor):
    """Of one host. `doomed`: VMs whose guests crash a moment after each start."""

    def __init__(self, stage: Stage, host: str, storage: Storage) -> None:
        super().__init__()
        self.doomed: set[str] = set()
        self._stage, self._host, self._storage = stage, host, storage

    def start(self, spec: GuestSpec) -> None:
        self._storage.open(self._host, spec.vm, spec.epoch, "default")
        super().start(spec)
        if spec.vm in self.doomed:
            self._stage.after(0.1, lambda: self.crash(spec.vm))

    def kill(self, vm: str) -> None:
        super().kill(vm)
        self._storage.end(self._host, vm)

    def crash(self, vm: str) -> None:
        super().crash(vm)
        self._storage.end(self._host, vm)

    def reap(self) -> frozenset[str]:
        """What `deadman` does."""
        leased = frozenset(vm for vm, guest in self.actual().items() if guest.leased)
        for vm in leased:
            self.crash(vm)
        return leased

    def lose_power(self) -> None:
        for vm, trace in list(self.machine.items()):
            self.machine[vm] = Trace(None, trace.log)
            self._storage.end(self._host, vm, by_power_loss=True)


class Pool(FakePool):
    """Shared by all hosts. clone_s: how long it takes to make a disk."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.clone_s = 0.0
        self._stage = stage

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        if self.clone_s:
            self._stage.pass_time(self.clone_s)
        super().add_disk(vm, name, image, size_mib)


class HostClock:
    """A host's own: its seconds since 1970 may be wrong."""

    def __init__(self, stage: Stage) -> None:
        self.ahead_s = 0.0
        self._stage = stage

    def now_s(self) -> float:
        return self._stage.now_s() + self.ahead_s

    def monotonic_s(self) -> float:
        return self._stage.monotonic_s()

    def boot_s(self) -> float:
        return self._stage.monotonic_s()


class Guard(Daemon):
    """The daemon `lease` or `deadman` of a host."""

    def __init__(self, host: "Machine", kind: str) -> None:
        super().__init__(host.stage, host.etcd, f"{host.name}-{kind}")
        self._host, self._kind = host, kind

    def start(self) -> None:
        if self._host.has_power:
            super().start()

    def build(self, process: Process) -> None:
        host = self._host
        if self._kind == "lease":
            alive = Alive(host=host.id, boot=host.boot_id)
            leased = LeasedKey(self.wire, alive, HOST_TTL_S, host.clock, TIMING.renew_s)
            self.run(process, Lease(leased, host.deadline, host.beat, host.clock, TIMING))
        self.run(process, Deadman(host.deadline, host.guests.reap, host.clock))


class Machine(Daemon):
    """A host: its daemons, and what outlives them."""

    def __init__(self, stage: Stage, etcd: Etcd, name: str, id: str, memory_mib: int, pool: Pool, storage: Storage) -> None:
        super().__init__(stage, etcd, name)
        self.id, self.memory_mib, self.storage = id, memory_mib, storage
        self.guests, self.clock = Guests(stage, name, storage), HostClock(stage)
        self.has_power, self.boots = True, 1
        self.deadline, self.beat = Instant(), Instant()
        self.hands, self._pool = fake_hands(), pool
        self.daemons: tuple[Daemon, ...] = (Guard(self, "lease"), Guard(self, "deadman"), self)

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    def start(self) -> None:
        if self.has_power:
            super().start()

    def start_all(self) -> None:
        for daemon in self.daemons:
            daemon.start()

    def build(self, process: Process) -> None:
        prefixes = [keys.manifests(self.id), keys.statuses(self.id), keys.fence(self.id)]
        view = View(self.wire, prefixes, self.clock, lambda: thread.wake())
        journal = Journal(self.wire, self.id, self.clock, KEPT_OF_HOST, lambda: journal_thread.wake())
        book = View(self.wire, [], self.clock, lambda: wired.wake())
        user_data = UserData(view)
        network = host_network(self.id, DEFAULTS.network, self.hands, user_data, book, self.clock, journal, Impatient())
        wired = self.run(process, network)
        loop = HostLoop(
            self.wire,
            view,
            self.guests,
            lambda _: self._pool,
            network,
            user_data,
            nocloud.files,
            Speaking(self, process.workers),
            self.clock,
            self._inventory(),
            Endpoint(host=self.id, url=f"http://{self.name}", token=Secret(f"token-{self.starts}")),
            POWER_DOWN_S,
            journal,
            may_start=lambda: (self.deadline.get() or 0.0) > self.clock.boot_s(),
            beat=lambda: self.beat.set(self.clock.boot_s()),
        )
        thread, journal_thread = self.run(process, loop), self.run(process, journal)
        process.workers.wake = thread.wake
        self.guests.subscribe(thread.wake)
        process.connections.append(self.guests.close)

    def _inventory(self) -> Inventory:
        return Inventory(
            host=self.id,
            cpus=CPUS,
            memory_mib=self.memory_mib,
            hypervisor="fake",
            accel="fake",
            version="sim",
            boot=self.boot_id,
        )

    def lose_power(self) -> None:
        self.has_power = False
        for daemon in self.daemons:
            daemon.stop()
        self.hands = fake_hands()
        self.guests.lose_power()

    def boot(self) -> None:
        self.has_power, self.boots = True, self.boots + 1
        self.deadline, self.beat = Instant(), Instant()
        self.storage.boot(self.name)
        self.start_all()
