"""One simulated history: a small cloud under a hail of faults, then healed, then asked whether all is well."""

from collections.abc import Callable

import msgspec

from sim.api import ApiNode
from sim.client import Client
from sim.convergence import complaints
from sim.drivers import POOLS, Images, image_in
from sim.etcd import Etcd
from sim.faults import Faults
from sim.hosts import HostNode
from sim.invariants import Invariants
from sim.nodes import ControlNode, Node, Site
from sim.protections import Protections
from sim.storage import Storage
from sim.world import Violation, World
from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Host
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.record import Record, encode

# Cores, MiB, rack. One name begins with another, as a trap for prefixes.
HOSTS = {"h1": (4, 1024, "r1"), "h10": (2, 768, "r2"), "h2": (2, 512, "r2")}
SETTLE_S = 20.0  # until the last commit that was given up has happened or failed, and the last lock has run out
HEAL_S, LOOK_S = 300.0, 3.0
QUIET_S, LONG_QUIET_S, LONG_QUIET = 6.0, 70.0, 0.1  # the longest retry comes after 60 s


class Knobs(msgspec.Struct, frozen=True, omit_defaults=True):
    """How large a history is; `sim.shrink` turns them down. calm: kinds of weather and of faults that don't occur."""

    hosts: int = 3
    controls: int = 2
    apis: int = 2
    max_vms: int = 10
    faults_s: float = 35.0
    calm: tuple[str, ...] = ()


class Cloud:
    def __init__(self, seed: int, off: Protections | None = None, tracing: bool = False, knobs: Knobs | None = None) -> None:
        self.knobs = knobs or Knobs()
        self.world = World(seed, tracing, self.knobs.calm)
        self.etcd = Etcd(self.world)
        self.store = self.etcd.store
        sizes = dict(list(HOSTS.items())[: self.knobs.hosts])
        capacity = {name: (cpus, memory_mib) for name, (cpus, memory_mib, _) in sizes.items()}
        created = timestamp(self.world.now_s())
        pools = {
            name: Pool(name=name, path=f"/{name}", shared=shared, fence=fence, created=created)
            for name, (shared, fence) in POOLS.items()
        }
        storage = Storage(self.world, pools)
        self.invariants = Invariants(self.world, self.store, capacity, storage)
        self.images = Images(self.world, self.invariants, storage)
        site = Site(self.world, self.etcd, self.invariants, self.images, off or Protections())
        self.hosts = [HostNode(site, name, *size) for name, size in capacity.items()]
        self.controls = [ControlNode(site, f"control-{letter}") for letter in "abc"[: self.knobs.controls]]
        self.apis = [ApiNode(site, f"api-{letter}") for letter in "abc"[: self.knobs.apis]]
        self.nodes: list[Node] = [*(daemon for host in self.hosts for daemon in host.daemons), *self.controls, *self.apis]
        fences, by_name = self.invariants.fences, {host.name: host for host in self.hosts}
        fences.guests_on = lambda host: sorted(by_name[host].machine.guests())
        fences.outlives = lambda host, vm: by_name[host].outlives(vm)
        fences.has_renewed = lambda host: by_name[host].has_renewed()
        self.client = Client(self.world, self.apis, self.invariants, list(sizes), self.knobs.max_vms)
        self.client.operators.is_off = lambda host: not by_name[host].has_power
        self.faults = Faults(self.world, self.etcd, self.invariants, self.hosts, self.controls, self.nodes, self.knobs.calm)

    def play(self) -> None:
        """Raises Violation."""
        self.world.say("world", f"has this weather: {vars(self.world.weather)} and these faults: {self.faults.weights}")
        self._prepare()
        self.world.run_for(self.knobs.faults_s)
        self.world.say("world", "heals")
        self.world.faulty = False
        self.faults.heal()
        self.client.operators.arm_in_the_end(self.store)
        self._converge()

    def _prepare(self) -> None:
        created = timestamp(self.world.now_s())
        records: list[Record] = list(self.images.storage.pools.values())
        for pool in POOLS:
            id, name = image_in(pool), f"in-{pool}"
            records.append(Image(id=id, name=name, pool=pool, bytes=1, sha256="", created=created, uploaded_at=created))
            records.append(ImageState(image=id, phase="ready", format="qcow2", virtual_size_mib=1, since=created))
            records.append(Unique(path=keys.unique("image", "default", name), owner=id))
        for host in self.hosts:
            rack = HOSTS[host.name][2]
            records.append(Host(id=host.name, name=host.name, labels={"rack": rack}, created=created))
            records.append(Unique(path=keys.unique("host", host.name), owner=host.name))
        for record in records:
            self.store.commit({record.key: encode(record)})
            self.invariants.records.put(record.key, encode(record))
        for node in self.nodes:
            node.start()
        self._often(0.9, self.client.act)
        self._often(0.9, self.faults.strike)

    def _often(self, mean_s: float, act: Callable[[], None]) -> None:
        """Until the world is healed."""

        def again() -> None:
            if self.world.faulty:
                act()
                self.world.after(self.world.chance.expovariate(1 / mean_s), again)

        self.world.after(self.world.chance.expovariate(1 / mean_s), again)

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
        done, records = self._done()
        self.world.run_for(LONG_QUIET_S if self.world.chance.random() < LONG_QUIET else QUIET_S)
        if self._done() != (done, records):
            raise Violation(f"it does not come to rest: {self._done()[0] - done} more steps after everything was done")
        if left := list(complaints(self)):
            raise Violation("it did not stay as it should be: " + "; ".join(left))

    def _done(self) -> tuple[int, list[tuple[str, int]]]:
        """How many steps the hosts' workers have done, and what stands in the store, but for events, which are told a little
        later."""
        steps = sum(host.process.workers.done for host in self.hosts if host.process)
        items = self.store.list("").items
        return steps, [(item.key, item.mod_revision) for item in items if not item.key.startswith("event/")]
