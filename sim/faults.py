"""What befalls the simulated cloud from outside: machines, cables, the store as a whole, clocks, and people with root's
rights. What goes wrong in single calls is in `sim.process`, `sim.drivers`, `sim.store` and `sim.watch`."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from sim.etcd import Etcd, Link
from sim.hosts import HostNode
from sim.invariants import Invariants
from sim.nodes import ControlNode, Node
from sim.world import World
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model.host import Alive

WEIGHTS = (0.0, 0.3, 1.0, 3.0)  # of a kind in a history: none of some and a lot of others meets more than a little of all
SHORT_S, LONG_S = (0.5, 2.0, 5.0, 12.0, 30.0), (5.0, 20.0, 30.0, 40.0)
CUTS = {
    "is cut off": (Link(False, False, False), SHORT_S),
    "is heard by nobody": (Link(False, True, True), SHORT_S),
    "gets no answers": (Link(True, False, True), SHORT_S),
    "has watches that are silent": (Link(True, True, False), LONG_S),  # nothing else tells it that something is wrong
}
STANDS_S = (0.5, 3.0, 8.0, 20.0, 90.0)
AILS_S = (1.0, 4.0, 10.0)
BEHIND_S = 10.0
SPOILED = (b"\xff\xfe", b"{}", b"null", b'{"id":7}', b'{"vm":"../etc","host":"h1"}', b"")
SPOILS = ("vm/", "placement/", "manifest/", "manifest/", "manifest/", "status/", "network/", "port/")
MORE_SPOILS = ("key/", "blob/")  # of histories in which there are any
SPOILED_S = (2.0, 10.0, 40.0)


class Faults:
    def __init__(
        self,
        world: World,
        etcd: Etcd,
        invariants: Invariants,
        hosts: Sequence[HostNode],
        controls: Sequence[ControlNode],
        nodes: Sequence[Node],
        calm: Collection[str] = (),
    ) -> None:
        self._world, self._etcd, self._invariants = world, etcd, invariants
        self._hosts, self._controls, self._nodes = hosts, controls, nodes
        self._revoked_s = float("-inf")
        kinds: dict[str, tuple[float, Callable[[], None]]] = {
            "guests": (6.0, self._touch_guest),
            "kills": (2.0, self._kill),
            "upgrades": (4.0, self._stop_control),
            "power": (3.0, self._touch_power),
            "cuts": (3.0, self._cut),
            "isolations": (2.0, self._isolate),
            "freezes": (1.0, self._freeze),
            "pauses": (1.0, self._stand_still),
            "compactions": (2.0, self._compact),
            "elections": (0.5, self._elect),
            "revocations": (1.0, self._revoke),
            "outages": (0.3, self._lose_quorum),
            "fullness": (0.4, self._fill),
            "slowness": (0.4, self._slow_down),
            "clocks": (0.7, self._jump),
            "hands": (1.2, self._spoil),
            "cables": (2.0, self._damage),
        }
        self.weights = {kind: weight * world.chance.choice(WEIGHTS) for kind, (weight, _) in kinds.items()}
        for kind in calm:
            self.weights.pop(kind, None)
        self._acts = {kind: act for kind, (_, act) in kinds.items()}

    def strike(self) -> None:
        chance = self._world.chance
        if sum(self.weights.values()):
            kind = chance.choices(list(self.weights), list(self.weights.values()))[0]
            self._acts[kind]()

    def heal(self) -> None:
        self._etcd.heal()
        for node in self._nodes:
            node.link.requests = node.link.answers = node.link.watches = True
            node.link.behind = False
        for key in list(self._invariants.records.spoiled):
            self._mend(key)
        self._invariants.storage.cut.clear()
        for host in self._hosts:
            host.thaw()
            host.boot()
        for node in self._nodes:
            node.start()

    def _later(self, s: float, act: Callable[[], None]) -> None:
        """Nothing that is still to end ends after all was healed: that ends it."""
        self._world.after(s, lambda: act() if self._world.faulty else None)

    # Machines.

    def _touch_guest(self) -> None:
        chance = self._world.chance
        host = chance.choice(self._hosts)
        guests = sorted(vm for vm, guest in host.machine.guests().items() if guest.state == "running")
        if guests:
            touch = host.machine.crash if chance.random() < 0.5 else host.machine.power_off
            touch(chance.choice(guests))

    def _kill(self) -> None:
        self._world.chance.choice(self._nodes).kill("is killed")

    def _stop_control(self) -> None:
        """As for an upgrade. Now and then the others are behind, so that the next leader knows less than the last one did."""
        chance = self._world.chance
        control = chance.choice(self._controls)
        if chance.random() < 0.5:
            control.stop()
            return
        for other in self._controls:
            if other is not control:
                other.link.behind = True
                self._later(BEHIND_S, partial(setattr, other.link, "behind", False))
        self._later(chance.choice(AILS_S), control.stop)

    def _touch_power(self) -> None:
        chance = self._world.chance
        host = chance.choice(self._hosts)
        if host.has_power and chance.random() < 0.3:
            host.lose_power()
        else:
            host.boot()

    def _stand_still(self) -> None:
        node, s = self._world.chance.choice(self._nodes), self._world.chance.choice(STANDS_S)
        if node.process:
            self._world.say(node.name, f"stands still for {s:g} s")
            node.process.stand_still(s)

    def _jump(self) -> None:
        node = self._world.chance.choice(self._nodes)
        self._world.say(node.name, f"has a clock that is {node.clock.jump():g} s ahead")

    def _cut(self) -> None:
        chance = self._world.chance
        node, what = chance.choice(self._nodes), chance.choice(list(CUTS))
        cut, times_s = CUTS[what]
        s = chance.choice(times_s)
        self._world.say(node.name, f"{what} for {s:g} s")
        node.link.requests, node.link.answers, node.link.watches = cut.requests, cut.answers, cut.watches
        self._later(s, partial(self._join, node))

    def _isolate(self) -> None:
        """The machine as a whole, for longer than it has its lease."""
        chance, cut = self._world.chance, self._invariants.storage.cut
        host, s = chance.choice(self._hosts), chance.choice(LONG_S)
        what = chance.choice(("its storage", "etcd", "etcd and its storage"))
        self._world.say(host.name, f"is cut off from {what} for {s:g} s")
        if "storage" in what:
            cut.add(host.name)
            self._later(s, partial(cut.discard, host.name))
        if "etcd" in what:
            host.link.requests = host.link.answers = host.link.watches = False
            self._later(s, partial(self._join, host))

    def _freeze(self) -> None:
        self._world.chance.choice(self._hosts).freeze(self._world.chance.choice(STANDS_S))

    def _join(self, node: Node) -> None:
        self._world.say(node.name, "is joined to the store again")
        node.link.requests = node.link.answers = node.link.watches = True

    # The store.

    def _compact(self) -> None:
        self._world.say("etcd", "compacts")
        self._etcd.store.compact(self._etcd.store.list("", limit=1).revision - self._world.chance.randrange(5))

    def _elect(self) -> None:
        self._world.say("etcd", "has a new leader, which gives each lease its whole time again")
        self._etcd.elect()

    def _revoke(self) -> None:
        """Not twice while a view may still lack that it ever happened: it takes two short absences for one long one."""
        if self._world.monotonic_s() < self._revoked_s + MAX_VIEW_AGE_S:
            return
        self._revoked_s = self._world.monotonic_s()
        self._world.say("etcd", "has a leader of former times, which ends leases")
        for host in self._hosts:
            if self._world.chance.random() < 0.5:
                self._etcd.revoke(Alive.at(host.name))

    def _lose_quorum(self) -> None:
        self._world.say("etcd", "has no quorum")
        self._etcd.lose_quorum()
        self._later(self._world.chance.choice(AILS_S), self._elect)

    def _fill(self) -> None:
        self._world.say("etcd", "is full")
        self._etcd.is_full = True
        self._later(self._world.chance.choice(AILS_S), partial(setattr, self._etcd, "is_full", False))

    def _slow_down(self) -> None:
        self._world.say("etcd", "is slow")
        self._etcd.is_slow = True
        self._later(self._world.chance.choice(AILS_S), partial(setattr, self._etcd, "is_slow", False))

    # Hands.

    def _damage(self) -> None:
        self._world.chance.choice(self._hosts).machine.links.damage()

    def _spoil(self) -> None:
        """Somebody writes what makes no sense, and mends it later."""
        chance, spoiled = self._world.chance, self._invariants.records.spoiled
        spoils = SPOILS + MORE_SPOILS * bool(self._etcd.store.list(MORE_SPOILS[0]).items)
        items = [item for item in self._etcd.store.list(chance.choice(spoils)).items if item.key not in spoiled]
        items = [item for item in items if not item.key.endswith(("/inventory", "/endpoint"))]
        if items:
            item = chance.choice(items)
            self._world.say("a hand", f"spoils {item.key}")
            self._invariants.records.spoil(item.key, item.value)
            self._etcd.store.commit({item.key: chance.choice(SPOILED)})
            self._later(chance.choice(SPOILED_S), partial(self._mend, item.key))

    def _mend(self, key: str) -> None:
        if key in self._invariants.records.spoiled:
            self._world.say("a hand", f"mends {key}")
            self._etcd.store.commit({key: self._invariants.records.spoiled.pop(key)})
