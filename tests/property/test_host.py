"""Whatever a host is told and whatever happens to it: in the end guests and their ports are exactly what the manifests want,
and once it has said that nothing runs under a fence, nothing does before that has gone.

A story is a list of events: (the name of a method of `Story`, its arguments).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.machine import Machine
from tests.unit.world import fence, manifest, network, port
from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor.fake import Trace
from ucloud.model import eui64
from ucloud.model.guest import Guest
from ucloud.model.network import ManifestPort, Port
from ucloud.model.record import decode
from ucloud.model.vm import Disk, Manifest, PoolRef, Status
from ucloud.model.wiring import Plug
from ucloud.scheduler.ports import ref
from ucloud.store.contract import Item

VMS = ["vm-a", "vm-b"]
NETWORKS = ["network-1", "network-2"]
OF_PORTS = ["filters", "plugs", "reservations", "metadata"]  # sets with a thing for each port here,
OF_NETWORKS = ["zones", "segments", "services"]  # for each network here,
OF_BOOK = ["names", "taken"]  # and for each entry of the address book about one of those
SETS = [*OF_PORTS, *OF_NETWORKS, *OF_BOOK]


class Slow:
    """An executor whose steps take as long as it is told: they wait, and are done in any order."""

    def __init__(self) -> None:
        self.holds = False
        self._waiting: dict[str, Callable[[], None]] = {}

    def busy(self) -> frozenset[str]:
        return frozenset(self._waiting)

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        assert vm not in self._waiting
        if self.holds:
            self._waiting[vm] = work
        else:
            work()

    def work(self, which: int) -> None:
        if self._waiting:
            self._waiting.pop(sorted(self._waiting)[which % len(self._waiting)])()

    def die(self) -> None:
        """The daemon does; what has not begun never will."""
        self._waiting.clear()


class Story:
    """What happens to one host."""

    def __init__(self) -> None:
        self.workers = Slow()
        self.machine = Machine(self.workers)
        self.fences = 0
        self.statuses: Sequence[Item] = ()  # when the last fence came
        self.crashes: Counter[str] = Counter()
        self.lost: set[str] = set()  # VMs whose manifest somebody took away by hand

    def tell(self, vm: str, want: str, epochs: int, boots: int, hard: bool, networks: set[str]) -> None:
        """As the scheduler does: numbers only rise, and what is to be absent is told nothing else any more."""
        told = self.told(vm)
        if told and told.want == "absent":
            return
        epoch, boot = (told.epoch, told.boots) if told else (self.fences + 1, 1)
        disks = "delete" if want == "absent" else "keep"
        ports = tuple(port_of(vm, network) for network in sorted(networks))
        changes = {
            "epoch": epoch + epochs,
            "boots": boot + boots,
            "want": want,
            "hard": hard,
            "disks_do": disks,
            "ports": ports,
            "disks": disks_of(vm),
        }
        self.machine.put(manifest(vm, **changes))

    def declare(self) -> None:
        """The host manager does."""
        if not self.fence():
            self.fences += 1
            self.statuses = self.machine.store.list("status/host-1/vm/").items
            self.machine.put(fence("host-1", self.fences, "fencing"))

    def prove(self) -> None:
        if self.fence():
            self.machine.put(fence("host-1", self.fences, "fenced"))

    def lift(self, moved: set[str]) -> None:
        """Every VM has a new epoch, here or elsewhere, before it goes."""
        said = self.machine.reconciled
        if not self.fence() or said is None or said.number != self.fences:
            return
        for vm in VMS:
            told = self.told(vm)
            if told and vm in moved:
                self.lose(vm)
            elif told:
                self.machine.put(msgspec.structs.replace(told, epoch=told.epoch + 1))
        self.machine.store.commit(deletes=["fence/host-1"])

    def lease(self, is_held: bool) -> None:
        self.machine.has_lease = is_held

    def hold(self, holds: bool) -> None:
        self.workers.holds = holds

    def work(self, which: int) -> None:
        self.workers.work(which)
        self.check_fence()

    def check_fence(self) -> None:
        if not self.fence():
            return
        assert self.machine.store.list("status/host-1/vm/").items == self.statuses
        said = self.machine.reconciled
        if said and said.number == self.fences:
            assert not [trace.guest for trace in self.machine.guests.values() if trace.guest]

    def fence(self) -> bool:
        return self.machine.store.get("fence/host-1") is not None

    def lose(self, vm: str) -> None:
        self.lost.add(vm)
        self.machine.store.commit(deletes=[f"manifest/host-1/{vm}"])

    def crash(self, vm: str) -> None:
        self.crashes[vm] += 1
        self.machine.hypervisor.crash(vm)

    def power_off(self, vm: str) -> None:
        self.machine.hypervisor.power_off(vm)

    def deafen(self, vm: str) -> None:
        self.machine.hypervisor.deaf.add(vm)

    def leave_behind(self, vm: str, epoch: int, boots: int) -> None:
        """A guest that nobody here started, but before a fence."""
        if self.fence():
            return
        self.machine.guests.setdefault(vm, Trace(Guest(vm=vm, epoch=epoch, boots=boots, state="running")))

    def restart(self) -> None:
        self.workers.die()
        self.machine.daemon()

    def fail(self, driver: str, verb: str, after: bool) -> None:
        getattr(self.machine, driver).fail_next(verb, after=after)

    def refuse(self, name: str, call: str) -> None:
        getattr(self.machine.hands, name).fail_next(call)

    def take(self, name: str, which: int, whole: bool) -> None:
        """Somebody takes a thing of the network away, or a part of it."""
        world = getattr(self.machine.hands, name).world
        if not world:
            return
        key = sorted(world)[which % len(world)]
        thing, world[key] = world[key], None
        if whole:
            del world[key]
        if isinstance(thing, Plug):
            self.machine.hypervisor.cut(thing.vm, thing.mac)

    def meet(self, network: str, vm: str, is_on: bool) -> None:
        """The address book tells of another VM, or of one that was here."""
        told = port_of(vm, network)
        entry = Port(network=network, vm=vm, name=vm, mac=told.mac, ipv6=told.ipv6, host="host-2")
        if is_on:
            self.machine.put(entry)
        else:
            self.machine.store.commit(deletes=[entry.key])

    def look(self, times: int) -> None:
        for _ in range(times):
            for loop in (self.machine.loop, self.machine.network):
                with suppress(Temporary):
                    loop.step()
                self.check_fence()

    def wait(self, seconds: float) -> None:
        self.machine.clock.pass_s(seconds)

    def settle(self) -> None:
        """Long enough for every retry and every deadline. In the end all guests hear again: one that keeps an interface for
        ever is never as told."""
        self.lease(True)
        self.hold(False)
        for _ in range(3):
            self.work(0)
        self.finish_fence()
        for deaf in (self.machine.hypervisor.deaf, set()):
            self.machine.hypervisor.deaf = deaf
            for _ in range(6):
                self.look(10)
                self.wait(61.0)

    def finish_fence(self) -> None:
        for _ in range(6):
            self.look(10)
            self.lift(set())
            self.wait(61.0)
        assert not self.fence()

    def told(self, vm: str) -> Manifest | None:
        item = self.machine.store.get(f"manifest/host-1/{vm}")
        return decode(Manifest, item.value)[0] if item else None

    def said(self, vm: str) -> Status | None:
        item = self.machine.store.get(f"status/host-1/vm/{vm}")
        return decode(Status, item.value)[0] if item else None


def event(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


def disks_of(vm: str) -> tuple[Disk, ...]:
    """One of the VMs has its disk in a pool that hosts share."""
    pool = PoolRef(name="local", kind="directory", path="/pool", shared=vm == "vm-b", fence="same-kernel")
    return (Disk(name="root", pool=pool, image="image-1", size_mib=2048),)


def port_of(vm: str, network_id: str) -> ManifestPort:
    own = port(vm, network_id)
    return ManifestPort(network=ref(network(network_id)), mac=own.mac, ipv6=own.ipv6)


vms, numbers = st.sampled_from(VMS), st.integers(0, 1)
verbs = [("hypervisor", verb) for verb in ("actual", "start", "power_down", "guard", "kill", "forget", "traces")]
verbs += [("pool", "add_disk"), ("pool", "remove_disk")]
looks = event("look", st.sampled_from([1, 1, 2, 6]))
wants = st.sampled_from(["running", "running", "stopped", "absent"])
tells = event("tell", vms, wants, numbers, numbers, st.booleans(), st.sets(st.sampled_from(NETWORKS)))
fences = st.one_of(event("declare"), event("prove"), event("lift", st.sets(st.sampled_from(VMS))))
works = event("work", st.integers(0, 3))
events = st.one_of(
    looks,
    tells,
    event("lose", vms),
    event("crash", vms),
    event("power_off", vms),
    event("deafen", vms),
    event("leave_behind", vms, st.integers(1, 2), st.integers(1, 2)),
    event("restart"),
    fences,
    event("lease", st.booleans()),
    event("refuse", st.sampled_from(SETS), st.sampled_from(["actual", "add", "remove"])),
    event("take", st.sampled_from(SETS), st.integers(0, 3), st.booleans()),
    event("meet", st.sampled_from(NETWORKS), st.sampled_from([*VMS, "vm-c"]), st.booleans()),
    event("wait", st.sampled_from([1.0, 10.0, 100.0])),
    st.builds(lambda verb, after: ("fail", *verb, after), st.sampled_from(verbs), st.booleans()),
)
stories = st.lists(st.one_of(looks, tells, events), max_size=50)
slow_stories = st.lists(st.one_of(looks, works, works, tells, fences, events), min_size=20, max_size=50)


def play(events: list[tuple[Any, ...]]) -> Story:
    story = Story()
    for name, *arguments in events:
        getattr(story, name)(*arguments)
    story.settle()
    return story


@given(stories)
@settings(max_examples=300, deadline=None)
def test_in_the_end_the_guests_are_what_the_manifests_want(events: list[tuple[Any, ...]]) -> None:
    story = play(events)
    for vm in VMS:
        check(story, vm)
    check_network(story)
    before = snapshot(story)
    story.settle()
    assert snapshot(story) == before, "and there it stays"


@given(slow_stories)
@settings(max_examples=300, deadline=None)
def test_what_was_begun_before_a_fence_changes_nothing_under_it(events: list[tuple[Any, ...]]) -> None:
    """Looked at by `check_fence`, all the time."""
    story = play([("hold", True), *events])
    for vm in VMS:
        check(story, vm)


def snapshot(story: Story) -> Any:
    things = {name: getattr(story.machine.hands, name).actual() for name in SETS}
    return story.machine.store.list("").revision, dict(story.machine.guests), things


def check(story: Story, vm: str) -> None:
    told, said, guest = story.told(vm), story.said(vm), story.machine.hypervisor.actual().get(vm)
    has_disk = (vm, "root") in set(story.machine.pool.disks())
    if told is None or told.want == "absent":
        assert (said, guest) == (None, None)
        assert vm in story.lost or not has_disk
    elif told.want == "stopped":
        assert said
        assert (said.phase, said.boots, said.error, guest) == ("stopped", told.boots, "", None)
    else:
        assert said
        assert (said.epoch, said.boots, said.error) == (told.epoch, told.boots, "")
        assert (said.pools, said.leased) == (("local",), told.needs_lease)
        assert said.phase in ("off", "running")
        macs = frozenset(port.mac for port in told.ports)
        running = Guest(vm=vm, epoch=told.epoch, boots=told.boots, state="running", macs=macs, leased=told.needs_lease)
        assert guest == (running if said.phase == "running" else None)


def check_network(story: Story) -> None:
    """What the guests that run here need is there, and nothing else."""
    told = [manifest for vm in story.machine.hypervisor.actual() if (manifest := story.told(vm))]
    here = {f"{port.network.vni}/{manifest.vm}": port for manifest in told for port in manifest.ports}
    networks = {port.network.id: port.network.vni for port in here.values()}
    entries = [decode(Port, item.value)[0] for item in story.machine.store.list("port/").items]
    book = [(networks[entry.network], entry) for entry in entries if entry.network in networks]
    wanted = {
        **dict.fromkeys(OF_PORTS, set(here)),
        **dict.fromkeys(OF_NETWORKS, {f"{vni}" for vni in networks.values()}),
        "names": {f"{vni}/{entry.vm}" for vni, entry in book},
        "taken": {f"{vni}/{eui64.link_local(entry.mac)}" for vni, entry in book},
    }
    found = {name: getattr(story.machine.hands, name).actual() for name in SETS}
    assert {name: set(things) for name, things in found.items()} == wanted
    assert all(thing for things in found.values() for thing in things.values()), "nothing is damaged"
    for key, own in here.items():
        passes, plug = found["filters"][key], found["plugs"][key]
        assert (passes.mac, passes.addresses) == (plug.mac, plug.addresses) == (own.mac, (own.ipv6,))


@given(stories)
@settings(max_examples=300, deadline=None)
def test_a_guest_boots_once_for_each_boot_it_was_told_and_for_each_crash(events: list[tuple[Any, ...]]) -> None:
    """Counted from the line that each guest writes. Stopped and told to run again is another boot of the same number."""
    story = play([event for event in events if event[:1] != ("tell",) or event[2] != "stopped"])
    for vm, trace in story.machine.guests.items():
        lines = trace.log.splitlines()
        assert len(lines) <= len(set(lines)) + story.crashes[vm] + (vm in story.lost) * len(lines)
