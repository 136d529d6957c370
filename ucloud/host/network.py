"""The network of this host's VMs: whatever their manifests and the address book want of networks, ports, filters and services.

A VM's part is made by the worker that starts its guest (`add`) and removed by the one that erases it (`remove`). The loop
(`step`) follows the address book, takes up what an earlier daemon left, and mends what somebody changed by hand.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ucloud.base.clock import Clock
from ucloud.base.errors import Temporary
from ucloud.host.decide import macs_of
from ucloud.host.wiring import Set, Wiring
from ucloud.model import keys
from ucloud.model.event import News
from ucloud.model.guest import GuestNic
from ucloud.model.host import Host
from ucloud.model.network import Port
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Plug, Segment, Service, Taken, Thing
from ucloud.store.journal import Journal
from ucloud.store.view import View

log = logging.getLogger("ucloud.host.network")

PERIOD_S = 10.0  # between looks at everything
AGAIN_S = 1.0  # after something failed


class HostNetwork:
    """wanted, neighbours: what a VM on this host, and an entry of the address book, need; tables of the components' functions.
    interface: the name of a plug's interface on this host. care: makes the host ready, before anything else and at each look;
    answers what it had to mend, in words. book: a view of nothing yet. lock: the simulator has its own, as its threads cannot
    wait for each other."""

    name = "network"

    def __init__(
        self,
        host: str,
        sets: Sequence[Set],
        wanted: Sequence[Callable[[Manifest], Iterable[Thing]]],
        neighbours: Sequence[Callable[[Port, int], Iterable[Thing]]],
        interface: Callable[[str], str],
        book: View,
        clock: Clock,
        journal: Journal | None = None,
        care: Callable[[], Sequence[str]] = tuple,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._host, self._wanted_by, self._neighbours, self._interface = host, wanted, neighbours, interface
        self._book, self._clock, self._journal, self._care = book, clock, journal, care
        self._lock = lock or threading.Lock()  # of what follows; held for as long as the system takes
        self._wiring = Wiring(sets)
        self._manifests: dict[str, Manifest] = {}  # VMs whose part is wanted
        self._wired: dict[str, frozenset[str]] = {}  # MACs of all ports of a VM of which something may be here
        self._unknown: frozenset[str] = frozenset()  # VMs
        self._is_ready = False  # `care` has succeeded
        self._is_told = False  # before, nothing is removed: who is here is not known
        self._mended_s = float("-inf")
        self._said: set[str] = set()  # troubles

    def add(self, manifest: Manifest) -> None:
        """Exactly what this manifest asks for is there for its VM. Raises Temporary."""
        with self._lock:
            self._manifests[manifest.vm] = manifest
            if not self._is_ready:
                self._take_care()
            macs = macs_of(manifest)
            self._wired[manifest.vm] = self._wired.get(manifest.vm, frozenset()) | macs
            self._wiring.want(manifest.vm, self._things(manifest))
            self._wired[manifest.vm] = macs
        self._book.wake()

    def remove(self, vm: str) -> None:
        """Nothing is there for this VM alone. Raises Temporary."""
        with self._lock:
            self._wiring.clear(vm)
            self._manifests.pop(vm, None)
            self._wired.pop(vm, None)
        self._book.wake()

    def nics(self, manifest: Manifest) -> tuple[GuestNic, ...]:
        """A guest's interfaces, as they are to be attached once everything is there."""
        plugs = {thing.mac: thing for thing in self._things(manifest) if isinstance(thing, Plug)}
        return tuple(
            GuestNic(mac=port.mac, tap=self._interface(plugs[port.mac].key), mtu=port.network.mtu) for port in manifest.ports
        )

    @property
    def wired(self) -> Mapping[str, frozenset[str]]:
        """VMs of which there may be something here, and the MACs of their ports."""
        return {vm: macs for vm, macs in list(self._wired.items()) if macs}  # without the lock: the host's loop must not wait

    def keep(self, manifests: Mapping[str, Manifest], told: Collection[str] = (), unknown: Collection[str] = ()) -> None:
        """These are the VMs whose part is wanted; called at each look at all of them. What is missing or too much is brought
        about by `step`. told: all VMs that have a manifest; they keep what they have until `remove`. unknown: VMs of which
        something cannot be read; so do they."""
        with self._lock:
            left = {vm: self._manifests[vm] for vm in (*told, *unknown) if vm in self._manifests}
            manifests = {**left, **manifests}
            self._unknown = frozenset(unknown)
            changed = {vm for vm in {*manifests, *self._manifests} if manifests.get(vm) != self._manifests.get(vm)}
            for vm in changed:
                self._wiring.note(vm, self._things(manifests[vm]) if vm in manifests else ())
            self._manifests = dict(manifests)
            self._wired = {vm: self._wired.get(vm, frozenset()) | macs_of(wanted) for vm, wanted in manifests.items()}
            is_news, self._is_told = bool(changed) or not self._is_told, True
            if is_news:
                self._mended_s = float("-inf")
        if is_news:
            self._book.wake()

    def step(self) -> float:
        self._follow_book()
        with self._lock:
            due_s = self._mended_s + PERIOD_S - self._clock.monotonic_s()
            if due_s > 0:
                return due_s
            if not self._is_told:
                return PERIOD_S
            return self._mend()

    def _mend(self) -> float:
        try:
            repaired = self._take_care()
            done = self._wiring.mend(self._unknown)
            repaired += self._counted(done.mended)
            failed = [
                f"{name} of {self._called(thing)}: {why}" if thing else f"{name}: {why}" for name, thing, why in done.failed
            ]
        except Temporary as error:
            repaired, failed = [], [error.message]
        for what in repaired:
            self._tell("repaired", f"{what}: changed by hand, or ended by itself; it is as it should be again")
        for trouble in failed:
            if trouble not in self._said:
                self._tell("failed", trouble)
        self._said = set(failed)
        self._mended_s = self._clock.monotonic_s() - (PERIOD_S - AGAIN_S if failed else 0)
        return AGAIN_S if failed else PERIOD_S

    def _counted(self, things: Iterable[tuple[str, Thing]]) -> list[str]:
        """In words, one for each set: somebody may have taken away the filters of a thousand VMs at once."""
        of_each: dict[str, list[str]] = {}
        for name, thing in things:
            of_each.setdefault(name, []).append(self._called(thing))
        return [
            f"{name} of {first}" + (f" and {len(others)} more" if others else "") for name, (first, *others) in of_each.items()
        ]

    def _called(self, thing: Thing) -> str:
        """As people know it: web on default."""
        ports = (port.network for told in self._manifests.values() for port in told.ports)
        network = next((network.name for network in ports if network.vni == thing.vni), f"network {thing.vni}")
        if isinstance(thing, Taken):
            return f"{thing.address} on {network}"
        if isinstance(thing, Segment | Service):
            return network
        told = self._manifests.get(thing.vm)
        return f"{told.name if told else thing.vm} on {network}"

    def _take_care(self) -> list[str]:
        mended = self._care()
        self._is_ready = True
        return list(mended)

    def _tell(self, verb: str, reason: str) -> None:
        log.warning("%s: %s", verb, reason)
        if self._journal:
            self._journal.say(News(verb, reason), Host.at(self._host))

    def _things(self, manifest: Manifest) -> Iterator[Thing]:
        for wanted in self._wanted_by:
            yield from wanted(manifest)

    # The address book of the networks that are here.

    def _follow_book(self) -> None:
        """Temporary is no reason to stop: names of others may be a little old."""
        with self._lock:
            vnis = {port.network.id: port.network.vni for told in self._manifests.values() for port in told.ports}
        try:
            self._book.cover([keys.ports(network) for network in sorted(vnis)])
            self._book.refresh()
        except Temporary as error:
            log.debug("the address book cannot be read: %s", error.message)
            return
        for key in sorted(self._book.changed):
            self._heed(self._book.get(Port, key), key, vnis)

    def _heed(self, port: Fact[Port] | None, key: str, vnis: Mapping[str, int]) -> None:
        things = [
            thing
            for neighbours in self._neighbours
            if port and port.record.network in vnis
            for thing in neighbours(port.record, vnis[port.record.network])
        ]
        with self._lock:
            try:
                self._wiring.want(key, things)
            except Temporary as error:
                log.warning("%s: %s", key, error.message)  # the next look mends it
                self._mended_s = float("-inf")
