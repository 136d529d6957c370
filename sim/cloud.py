"""One simulated history: a small cloud under a hail of faults, then healed, then asked whether all is well."""

from collections.abc import Callable

from sim.convergence import complaints
from sim.invariants import Invariants
from sim.nodes import ControlNode, HostNode, Node
from sim.process import Process
from sim.protections import Protections
from sim.store import Connection
from sim.user import IMAGE, POOL, User
from sim.world import Violation, World
from ucloud.base.clock import timestamp
from ucloud.model.host import Host
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Record, decode, encode
from ucloud.store.memory import MemoryStore

HOSTS = {"h1": 1024, "h10": 768, "h2": 512}  # MiB; one name begins with another, as a trap for prefixes
FAULTS_S = 70.0
SETTLE_S = 14.0  # until the last commit that was given up has happened or failed, and the last lock has run out
HEAL_S, LOOK_S = 300.0, 3.0
QUIET_S, LONG_QUIET_S, LONG_QUIET = 6.0, 70.0, 0.1  # the longest retry comes after 60 s


class Cloud:
    def __init__(self, seed: int, off: Protections | None = None, tracing: bool = False) -> None:
        self.seed = seed
        self.world = World(seed, tracing)
        self.store = MemoryStore(self.world)
        self.invariants = Invariants(self.world, self.store, HOSTS)
        parts = (self.world, self.store, self.invariants, off or Protections())
        self.hosts = [HostNode(*parts, name, memory_mib) for name, memory_mib in HOSTS.items()]
        self.controls = [ControlNode(*parts, name) for name in ("control-a", "control-b")]
        self.nodes: list[Node] = [*self.hosts, *self.controls]
        self.user = User(self.world, Connection(Process(self.world, "user", lambda _: None), self.store, self.invariants))

    def play(self) -> None:
        """Raises Violation."""
        self.world.say("world", f"has this weather: {vars(self.world.weather)}")
        self._prepare()
        self.world.run_for(FAULTS_S)
        self._heal()
        self._converge()

    def _prepare(self) -> None:
        created = timestamp(self.world.now_s())
        image = Image(id=IMAGE, name="tiny", pool=POOL, bytes=1, sha256="", created=created, uploaded_at=created)
        records: list[Record] = [Pool(name=POOL, path="/pool", created=created), image]
        records.append(ImageState(image=IMAGE, phase="ready", format="qcow2", virtual_size_mib=1, since=created))
        records += [Host(id=name, name=name, created=created) for name in HOSTS]
        self.store.commit({record.key: encode(record) for record in records})
        for node in self.nodes:
            node.start()
        for host in self.hosts:
            host.machine.pool.preload(IMAGE)
        self._often(0.6, self.user.act)
        self._often(0.8, self._trouble)

    def _often(self, mean_s: float, act: Callable[[], None]) -> None:
        """Until the world is healed."""

        def again() -> None:
            if self.world.faulty:
                act()
                self.world.after(self.world.chance.expovariate(1 / mean_s), again)

        self.world.after(self.world.chance.expovariate(1 / mean_s), again)

    def _trouble(self) -> None:
        chance = self.world.chance
        host, kind = chance.choice(self.hosts), chance.random()
        guests = sorted(vm for vm, guest in host.machine.guests().items() if guest.state == "running")
        if kind < 0.2 and guests:
            host.machine.crash(chance.choice(guests))
        elif kind < 0.4 and guests:
            host.machine.power_off(chance.choice(guests))
        elif kind < 0.46:
            self._kill(host)
        elif kind < 0.50:
            self._kill(chance.choice(self.controls))
        elif kind < 0.62:
            chance.choice(self.controls).stop()
        elif kind < 0.66 and self.world.happens(self.world.weather.kills):
            host.lose_power()
        elif kind < 0.8:
            host.boot()
        elif kind < 0.85:
            self._toggle(host)
        elif kind < 0.93:
            self.world.say("etcd", "compacts")
            self.store.compact(self.store.list("", limit=1).revision - chance.randrange(5))
        elif kind < 0.95:
            self.world.say("etcd", "has a new leader, which gives each lease its whole time again")
            self.store.rearm_leases()

    def _kill(self, node: Node) -> None:
        if self.world.happens(self.world.weather.kills / 2):
            node.kill("is killed")

    def _toggle(self, host: HostNode) -> None:
        """The operator changes his mind about a host."""
        item = self.store.get(Host.at(host.name))
        assert item
        wish = decode(Host, item.value)[0]
        self.world.say("operator", f"{'disables' if wish.enabled else 'enables'} {host.name}")
        changed = Host(id=wish.id, name=wish.name, created=wish.created, enabled=not wish.enabled)
        self.store.commit({changed.key: encode(changed)})

    def _heal(self) -> None:
        self.world.say("world", "heals")
        self.world.faulty = False
        for host in self.hosts:
            host.boot()
        for node in self.nodes:
            node.start()

    def _converge(self) -> None:
        """Come to rest, and stay there."""
        waited_s = SETTLE_S
        self.world.run_for(SETTLE_S)
        while (left := list(complaints(self))) and waited_s < HEAL_S:
            self.world.run_for(LOOK_S)
            waited_s += LOOK_S
        if left:
            raise Violation(f"{HEAL_S:g} s after all was healed: " + "; ".join(left))
        self.world.say("world", f"is as it should be after {waited_s:g} s")
        done, revision = self._done()
        self.world.run_for(LONG_QUIET_S if self.world.chance.random() < LONG_QUIET else QUIET_S)
        if self._done() != (done, revision):
            raise Violation(f"it does not come to rest: {self._done()[0] - done} more steps after everything was done")
        if left := list(complaints(self)):
            raise Violation("it did not stay as it should be: " + "; ".join(left))

    def _done(self) -> tuple[int, int]:
        """How many steps the hosts' workers have done, and the store's revision."""
        steps = sum(host.process.workers.done for host in self.hosts if host.process)
        return steps, self.store.list("", limit=1).revision
