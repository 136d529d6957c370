"""The hands of a simulated host: the production fakes behind calls that fail, take time, or kill the caller in the middle."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from sim.invariants import Invariants
from sim.links import Links
from sim.process import Process
from sim.storage import Storage
from sim.world import Killed, World
from ucloud.base.errors import Temporary
from ucloud.daemon.network import Hands as NetworkHands
from ucloud.daemon.network import fake_hands
from ucloud.driver.hypervisor.contract import LOG_BYTES, Console, Guest, GuestNic, GuestSpec, Log
from ucloud.driver.hypervisor.fake import FakeHypervisor, Trace
from ucloud.driver.pool.contract import Examined, Progress
from ucloud.driver.pool.fake import FakePool
from ucloud.model.guest import GuestDisk
from ucloud.model.image import PoolFence
from ucloud.model.wiring import Thing

FAILS_BEFORE, FAILS_AFTER, LOOK_FAILS = 0.03, 0.03, 0.01
DEAF, HOLDS = 0.15, 0.15
REFUSES, COMMANDS_S = 0.2, (0.1, 1.0, 8.0)
OBEYS_S = (0.1, 1.0, 5.0, 30.0)
DEFAULT, LOCAL = "default", "local"
POOLS: dict[str, tuple[bool, PoolFence]] = {  # whether hosts share it, and what cuts a dead one off
    DEFAULT: (True, "same-kernel"),
    "server": (True, "command"),
    "unfenced": (True, "none"),
    LOCAL: (False, "none"),
}


def image_in(pool: str) -> str:
    """The one that is in this pool from the beginning."""
    return f"image-{list(POOLS).index(pool):026d}"


def pool_of(spec: GuestSpec) -> str:
    return spec.disks[0].path.split("/")[1]


class Machine:
    """What outlives the daemon: guests, disks, logs. The guests are watched here, as only the world sees them all."""

    def __init__(self, world: World, host: str, invariants: Invariants, images: "Images") -> None:
        self.world, self.host, self.invariants, self.storage = world, host, invariants, images.storage
        self.hypervisor = FakeHypervisor()
        self.pools = {**images.pools, LOCAL: images.make(LOCAL)}
        self.links = Links(world, host, invariants, self.hypervisor.cut)

    def guests(self) -> Mapping[str, Guest]:
        return {vm: trace.guest for vm, trace in self.hypervisor.machine.items() if trace.guest}

    def start(self, spec: GuestSpec) -> None:
        for nic in spec.nics:
            self.links.check(spec.vm, nic)
        pool = pool_of(spec)
        self.storage.open(self.host, spec.vm, spec.epoch, pool)
        self.world.say(self.host, f"starts {spec.vm} epoch {spec.epoch} boot {spec.boots}")
        self.invariants.starting(self.host, spec, self.pools[pool].size_mib(spec.vm, "root"))
        self.hypervisor.start(spec)

    def attach(self, vm: str, nic: GuestNic) -> None:
        if vm in self.guests():
            self.links.check(vm, nic)
        self.world.say(self.host, f"attaches {nic.mac} to {vm}")
        self.hypervisor.attach(vm, nic)
        self._note_wires(vm)

    def detach(self, vm: str, mac: str) -> None:
        if self.world.happens(HOLDS):
            self.hypervisor.cut(vm, mac)
            raise Temporary("the guest does not let go of its interface")
        self.world.say(self.host, f"detaches {mac} from {vm}")
        self.hypervisor.detach(vm, mac)
        self._note_wires(vm)

    def _note_wires(self, vm: str) -> None:
        """With which interfaces its guest can send."""
        guest = self.guests().get(vm)
        if guest and guest.state == "running":
            self.invariants.wired(self.host, vm, guest.macs)

    def kill(self, vm: str) -> None:
        """Returns when nothing of it executes, and nothing of it is on its way to its disk."""
        guest = self.guests().get(vm)
        if guest:
            self.world.say(self.host, f"kills {vm}")
            self.hypervisor.kill(vm)
            self._end(vm, "powered off" if guest.state == "powered-off" else "kill")
        self.storage.settle(self.host, vm)

    def reap(self) -> frozenset[str]:
        """What `deadman` does: a signal to each guest that must not outlive the lease."""
        leased = sorted(vm for vm, guest in self.guests().items() if guest.leased)
        for vm in leased:
            self.world.say(self.host, f"{vm} must not outlive the lease")
            self.hypervisor.crash(vm)
            self._end(vm, "lease lost")
        return frozenset(leased)

    def _end(self, vm: str, how: str) -> None:
        self.storage.end(self.host, vm, how == "power loss")
        self.invariants.ended(self.host, vm, how)

    def press(self, vm: str) -> None:
        """The power button: the guest obeys later, or never."""
        pressed = self.guests().get(vm)
        if pressed and not self.world.happens(DEAF):
            pause_s = self.world.chance.choice(OBEYS_S)
            self.world.after(pause_s, lambda: self.power_off(vm) if self.guests().get(vm) == pressed else None)

    def power_off(self, vm: str) -> None:
        self.world.say(self.host, f"{vm} powers itself off")
        self.hypervisor.power_off(vm)
        self.invariants.wired(self.host, vm, frozenset())

    def crash(self, vm: str) -> None:
        self.world.say(self.host, f"{vm} crashes")
        self.hypervisor.crash(vm)
        self._end(vm, "crash")

    def lose_power(self) -> None:
        self.links.lose_power()
        for vm, trace in list(self.hypervisor.machine.items()):
            if trace.guest:
                self._end(vm, "power loss")
            if self.world.happens(0.5):
                del self.hypervisor.machine[vm]
            else:
                self.hypervisor.machine[vm] = Trace(None, trace.log)


class Hands:
    """Calls of one process to its drivers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def do(self, what: str, act: Callable[[], None]) -> None:
        world = self._process.world
        breakage = world.weather.breakage
        self._process.call(what)
        if world.happens(FAILS_BEFORE * breakage):
            raise Temporary(f"{what} failed")
        act()
        if world.happens(FAILS_AFTER * breakage):
            raise Temporary(f"the answer of {what} was lost")
        self._process.call(f"the answer of {what}")

    def look(self, what: str) -> None:
        if self._process.world.happens(LOOK_FAILS * self._process.world.weather.breakage):
            raise Temporary(f"{what} failed")


class Impatient:
    """A lock for threads of the simulator, which run within each other: one cannot wait until the other has gone on."""

    def __init__(self) -> None:
        self._is_held = False

    def __enter__(self) -> None:
        if self._is_held:
            raise Temporary("another thread of this process is at it")
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False


class SimThings:
    """A `ucloud.driver.things.Things`."""

    def __init__(self, process: Process, links: Links, name: str) -> None:
        self._hands, self._links, self.name = Hands(process), links, name

    def actual(self) -> Mapping[str, Thing | None]:
        self._hands.look(f"looking at each {self.name}")
        return self._links.sets[self.name].actual()

    def add(self, things: Sequence[Thing]) -> None:
        for thing in things:
            self._hands.do(f"adding a {self.name}", partial(self._links.add, self.name, thing))

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._hands.do(f"removing a {self.name}", partial(self._links.remove, self.name, key))


def network_hands(process: Process, machine: Machine) -> NetworkHands:
    return fake_hands(lambda name: SimThings(process, machine.links, name))


class SimHypervisor:
    """A `ucloud.driver.hypervisor.contract.Hypervisor`."""

    name = accel = "fake"

    def __init__(self, process: Process, machine: Machine) -> None:
        self._hands, self._machine = Hands(process), machine

    def actual(self, vms: Collection[str] | None = None) -> Mapping[str, Guest]:
        self._hands.look("looking at the guests")
        return {vm: guest for vm, guest in self._machine.guests().items() if vms is None or vm in vms}

    def traces(self) -> frozenset[str]:
        self._hands.look("looking for traces")
        return self._machine.hypervisor.traces()

    def start(self, spec: GuestSpec) -> None:
        self._hands.do("start", lambda: self._machine.start(spec))

    def attach(self, vm: str, nic: GuestNic) -> None:
        self._hands.do("attach", lambda: self._machine.attach(vm, nic))

    def detach(self, vm: str, mac: str) -> None:
        self._hands.do("detach", lambda: self._machine.detach(vm, mac))

    def resume(self, vm: str) -> None:
        self._hands.do("resume", lambda: self._machine.hypervisor.resume(vm))

    def power_down(self, vm: str) -> None:
        self._hands.do("power-down", lambda: self._machine.press(vm))

    def guard(self, vm: str) -> None:
        self._hands.do("guard", lambda: self._machine.hypervisor.guard(vm))

    def kill(self, vm: str) -> None:
        self._hands.do("kill", lambda: self._machine.kill(vm))

    def forget(self, vm: str) -> None:
        self._hands.do("forget", lambda: self._machine.hypervisor.forget(vm))

    def log(self, vm: str, after: int = 0, limit: int = LOG_BYTES) -> Log:
        return self._machine.hypervisor.log(vm, after, limit)

    def console(self, vm: str) -> Console:
        return self._machine.hypervisor.console(vm)

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._machine.hypervisor.subscribe(wake)

    def trim(self) -> None:
        self._hands.look("trimming logs")

    def close(self) -> None:
        self._machine.hypervisor.close()


class SimPool:
    """The part of a `ucloud.driver.pool.contract.Pool` that hosts use."""

    def __init__(self, process: Process, machine: Machine, name: str) -> None:
        self._hands, self._machine, self.name = Hands(process), machine, name
        self._pool = machine.pools[name]

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        def add() -> None:
            self._machine.storage.reach(self._machine.host, self.name)
            self._machine.invariants.making(self._machine.host, vm, "a disk")
            self._pool.add_disk(vm, name, image, size_mib)

        self._hands.do("add_disk", add)

    def remove_disk(self, vm: str, name: str) -> None:
        def remove() -> None:
            self._machine.storage.reach(self._machine.host, self.name)
            self._machine.world.say(self._machine.host, f"removes the disk of {vm}")
            self._machine.invariants.removing_disk(self._machine.host, vm)
            self._pool.remove_disk(vm, name)

        self._hands.do("remove_disk", remove)

    def disks(self) -> Iterator[tuple[str, str]]:
        return self._pool.disks()

    def attachment(self, vm: str, name: str) -> GuestDisk:
        return self._pool.attachment(vm, name)


class SimFence:
    """A `ucloud.driver.fence.contract.Fence`: commands that a server obeys, or not, or late."""

    def __init__(self, process: Process, storage: Storage) -> None:
        self._process, self._hands, self._storage = process, Hands(process), storage

    def cut_off(self, pool: str, name: str, address: str, host: str) -> str:
        if self._process.world.happens(REFUSES):
            raise Temporary("the server refused")
        self._hands.do("cut_off", partial(self._storage.cut_off, host, pool))
        return f"{pool} has cut {name} off"

    def begin(self, task: Callable[[], None]) -> None:
        """In a thread of its own, which dies with the process."""

        def run() -> None:
            if (stands_s := self._process.stands_s()) > 0:
                self._process.world.after(stands_s, run)
            elif self._process.alive:
                with suppress(Killed):
                    task()

        world = self._process.world
        world.after(world.chance.choice(COMMANDS_S) if world.faulty else 0.1, run)


class ImagePool:
    """The part of a `ucloud.driver.pool.contract.Pool` that the API and the image loop use. decide: called before it acts."""

    def __init__(self, process: Process, images: "Images", decide: Callable[[], None] = lambda: None) -> None:
        self._hands, self._images, self._decide = Hands(process), images, decide
        self.name = images.pool.name

    def free_bytes(self) -> int:
        return self._images.pool.free_bytes()

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str, start: int = 0) -> None:
        data = tuple(chunks)
        self._hands.do("receive", lambda: self._images.pool.receive(image, data, size, sha256, start))

    def progress(self, image: str) -> Progress:
        return self._images.pool.progress(image)

    def clone_image(self, source: str, image: str) -> Examined:
        self._decide()
        self._hands.do("clone_image", lambda: self._images.clone(source, image))
        return self._images.pool.clone_image(source, image)

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        self._decide()
        self._hands.do("publish", lambda: self._images.publish(image, max_virtual_mib))
        return self._images.pool.publish(image, max_virtual_mib)

    def remove_image(self, image: str) -> None:
        self._hands.do("remove_image", lambda: self._images.remove(image))


class Images:
    """`pools`: those that hosts share, by name. `pool`: the one that people's images go to; watched, so that no image goes that
    a VM needs."""

    def __init__(self, world: World, invariants: Invariants, storage: Storage) -> None:
        self.pools = {name: self.make(name) for name, pool in storage.pools.items() if pool.shared}
        self.pool, self.storage = self.pools[DEFAULT], storage
        self._world, self._invariants = world, invariants

    def make(self, name: str) -> FakePool:
        pool = FakePool(name)
        pool.preload(image_in(name))
        return pool

    def publish(self, image: str, max_virtual_mib: int) -> None:
        self._world.say("pool", f"publishes {image}")
        self.pool.publish(image, max_virtual_mib)

    def clone(self, source: str, image: str) -> None:
        self._world.say("pool", f"clones {source} to {image}")
        self.pool.clone_image(source, image)

    def remove(self, image: str) -> None:
        self._world.say("pool", f"removes {image}")
        self._invariants.removing_image(image)
        self.pool.remove_image(image)
