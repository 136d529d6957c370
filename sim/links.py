"""What a simulated host has of networks: interfaces, filters, services. It outlives the daemon that made it. Used by
`sim.drivers`."""

from collections import Counter
from collections.abc import Callable

from sim.invariants import Invariants
from sim.world import Violation, World
from ucloud.base.errors import Temporary
from ucloud.daemon.network import fake_hands
from ucloud.driver.things import FakeThings
from ucloud.model.guest import GuestNic
from ucloud.model.wiring import Metadata, Plug, PortFilter, Reservation, Thing

FIRST = {"network": "{0.vni}", "zone": "{0.vni}", "filter": "{0.key}"}  # what must be there before a plug, and its key


class Links:
    """`sets`: by the name of one of their things. What must hold is checked whenever the host changes one; a hand may change
    any at any moment. cut: called with VM and MAC of an interface whose plug is gone."""

    def __init__(self, world: World, host: str, invariants: Invariants, cut: Callable[[str, str], None]) -> None:
        self.sets: dict[str, FakeThings] = {}
        fake_hands(self._make)
        self._world, self._host, self._invariants, self.cut = world, host, invariants, cut
        invariants.traces[host] = self.traces
        self._missing: set[tuple[str, str]] = set()  # set and key of what a hand took away
        self._made: Counter[str] = Counter()  # plug → how often it was made
        self._held: dict[tuple[str, str], tuple[str, int]] = {}  # VM and MAC → the plug that its guest holds, which of them

    def _make(self, name: str) -> FakeThings:
        self.sets[name] = FakeThings(name)
        return self.sets[name]

    def add(self, name: str, thing: Thing) -> None:
        if isinstance(thing, Plug | PortFilter | Reservation | Metadata):
            self._invariants.making(self._host, thing.vm, f"a {name}")
        if name == "network":
            self._need("zone", thing.key, "brings up a network")
        if isinstance(thing, Plug):
            for first, key in FIRST.items():
                self._need(first, key.format(thing), f"plugs {thing.vm} in")
            self._made[thing.key] += thing.key not in self.sets[name].world
        self._world.say(self._host, f"makes the {name} {thing.key}")
        self._missing.discard((name, thing.key))
        self.sets[name].add([thing])

    def remove(self, name: str, key: str) -> None:
        for plug in self._plugs():
            if name in FIRST and FIRST[name].format(plug) == key:
                raise Violation(f"{self._host} removes the {name} {key} while {plug.vm} is plugged in")
            if name == "port" and plug.key == key and self._invariants.needs(self._host, plug.vm, plug.mac):
                raise Violation(f"{self._host} pulls the plug {key} out, as nobody has told it to")
        self._world.say(self._host, f"removes the {name} {key}")
        self._missing.discard((name, key))
        self._take(name, key)

    def check(self, vm: str, nic: GuestNic) -> None:
        """Its guest gets this interface now. Raises Temporary where there is nothing to plug it into."""
        plug = self.sets["port"].world.get(nic.tap.removeprefix("tap-"))
        if not isinstance(plug, Plug):
            raise Temporary(f"there is no interface {nic.tap}")
        self._need("filter", plug.key, f"gives {vm} an interface")
        passes = self.sets["filter"].world.get(plug.key)
        allowed = {(thing.vm, thing.mac, thing.addresses) for thing in (plug, passes) if isinstance(thing, Plug | PortFilter)}
        if allowed != {(vm, nic.mac, plug.addresses)}:
            raise Violation(f"{vm} gets the interface {nic.mac} on {self._host}, where {plug} and {passes} are")
        self._invariants.addresses.check_owner(vm, plug.vni, nic.mac, plug.addresses)
        self._held[vm, nic.mac] = (plug.key, self._made[plug.key])

    def is_plugged(self, vm: str, mac: str) -> bool:
        """Whether the plug that its guest holds is the one that is there now."""
        key, which = self._held[vm, mac]
        return self._made[key] == which

    def traces(self, vm: str) -> list[str]:
        """What is there for this VM alone."""
        return [
            f"the {name} {key}"
            for name in ("port", "filter", "reservation", "metadata")
            for key in self.sets[name].world
            if vm in key
        ]

    def damage(self) -> None:
        """A hand takes something away, or a part of it."""
        chance, there = self._world.chance, {name: list(things.world) for name, things in self.sets.items() if things.world}
        if there:
            name = chance.choice(list(there))
            key = chance.choice(there[name])
            self._world.say("a hand", f"damages the {name} {key} of {self._host}")
            self._missing.add((name, key))
            if chance.random() < 0.5:
                self._take(name, key)
            else:
                self.sets[name].damage(key)

    def _take(self, name: str, key: str) -> None:
        thing = self.sets[name].world.pop(key, None)
        if isinstance(thing, Plug) and (thing.vm, thing.mac) in self._held:
            self.cut(thing.vm, thing.mac)

    def lose_power(self) -> None:
        self._missing.clear()
        for things in self.sets.values():
            things.world.clear()

    def _plugs(self) -> list[Plug]:
        return [thing for thing in self.sets["port"].world.values() if isinstance(thing, Plug)]

    def _need(self, name: str, key: str, does: str) -> None:
        if self.sets[name].world.get(key) is None and (name, key) not in self._missing:
            raise Violation(f"{self._host} {does} where the {name} {key} is not there")
