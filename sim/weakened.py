"""Loops, views and networks of hosts from which a protection was taken. Used by `sim.protections`."""

from typing import Any, TypeVar

import msgspec

from ucloud.base.config import Network
from ucloud.daemon.network import Hands, host_network, sets
from ucloud.host.decide import World as Sight
from ucloud.host.loop import HostLoop
from ucloud.host.network import HostNetwork
from ucloud.host.wiring import Wiring
from ucloud.loop import Decider
from ucloud.model.network import Port
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Manifest, Status
from ucloud.model.wiring import Plug
from ucloud.store.view import View

R = TypeVar("R", bound=Record)


class NoStartingCommit(HostLoop):
    """Believes to have said `starting` whenever a manifest wants a guest."""

    def _look(self, vms: set[str] | None) -> Sight:
        sight = super()._look(vms)
        statuses = dict(sight.statuses)
        for vm, manifest in sight.manifests.items():
            told, status = manifest.record, statuses.get(vm)
            if told.want == "running" and (status is None or status.record.boots != told.boots):
                said = Status(
                    host=told.host,
                    vm=vm,
                    epoch=told.epoch,
                    boots=told.boots,
                    phase="starting",
                    since="",
                    revisions=told.revisions,
                )
                statuses[vm] = Fact(said.key, said, status.revision if status else 0)
        return msgspec.structs.replace(sight, statuses=statuses)


class NoBootsRule(HostLoop):
    """Takes a guest that powered itself off for one that crashed."""

    def _look(self, vms: set[str] | None) -> Sight:
        sight = super()._look(vms)
        statuses = {
            vm: msgspec.structs.replace(fact, record=msgspec.structs.replace(fact.record, phase="running"))
            if fact.record.phase == "off" and vm not in sight.guests
            else fact
            for vm, fact in sight.statuses.items()
        }
        return msgspec.structs.replace(sight, statuses=statuses)


class NoDistrust(View):
    """Goes on as if a lost answer were a no."""

    def distrust(self) -> None:
        pass


class NoOwnWrites(Decider):
    """Decides although its view lacks what it has written itself."""

    def _may_decide(self) -> bool:
        self._written: dict[str, Any] = {}
        return super()._may_decide()


class NoResync(View):
    """After a compaction goes on as if nothing had happened in between."""

    def _list(self) -> None:
        if not self._trusted:
            super()._list()
            return
        self._end_watch()
        self._seen = dict.fromkeys(self._prefixes, self._store.list(self._prefixes[0], limit=1).revision)
        self._watch = self._store.watch(self._seen, self.wake)


class NoAge(View):
    """Believes to be current, however long the store has been silent. What is written rests on requirements all the same, so
    no harm is seen: only the rule that nobody decides on an old view (sim.store) finds it."""

    @property
    def age_s(self) -> float:
        return 0.0


class NothingIsBad(View):
    """Takes a record that cannot be read for one that is not there."""

    def refresh(self) -> None:
        super().refresh()
        self.bad.clear()


class NoConfirmation(View):
    """To the scheduler every host seems to have said what it was told."""

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        fact = super().get(kind, key)
        told = super().get(Manifest, key.replace("status/", "manifest/").replace("/vm/", "/")) if kind is Status else None
        if fact and told and self.watches(Port.prefix):
            confirmed = msgspec.structs.replace(fact.record, revisions=told.record.revisions)
            return msgspec.structs.replace(fact, record=confirmed)
        return fact


class NoWires(HostLoop):
    """Takes every guest to have the interfaces that it was told of."""

    def _look(self, vms: set[str] | None) -> Sight:
        sight = super()._look(vms)
        ports = {vm: sight.manifests[vm].record.ports for vm in sight.guests if vm in sight.manifests}
        macs = {vm: frozenset(port.mac for port in its) for vm, its in ports.items()}
        guests = {vm: msgspec.structs.replace(guest, macs=macs.get(vm, guest.macs)) for vm, guest in sight.guests.items()}
        return msgspec.structs.replace(sight, guests=guests)


def plugs_first(host: str, settings: Network, hands: Hands, *more: Any) -> HostNetwork:
    """What a VM is plugged into, and what it may send, come later."""
    network = host_network(host, settings, hands, *more)
    vars(network)["_wiring"] = Wiring(sorted(sets(hands), key=lambda things: things.kind is not Plug))
    return network


def never_removed(*arguments: Any) -> HostNetwork:
    """A VM's part of the network stays when the VM goes, until the next look at everything."""
    network = host_network(*arguments)
    vars(network)["remove"] = lambda vm: None
    return network


def all_known(*arguments: Any) -> HostNetwork:
    """A VM of which something cannot be read needs no network."""
    network = host_network(*arguments)
    keep = network.keep
    vars(network)["keep"] = lambda manifests, unknown: keep(manifests)
    return network
