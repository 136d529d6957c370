"""VMs' ports: what hosts are told of them, the address book, and what is free again when a port is gone.

Pure; used by `ucloud.scheduler.decide` for one pass. What a port claims (`keys.port_claims`) is always known: from the VM's
record while it has the port, and from the address book from the commit that tells a host of it until no host can have it.
"""

from collections.abc import Iterator, Mapping

from ucloud.model import keys
from ucloud.model.decision import Decision, Requirement, as_seen, unchanged
from ucloud.model.facts import Facts
from ucloud.model.network import ManifestPort, Network, NetworkRef, Port
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Placement, Status, Vm


class Ports:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._networks = {fact.record.id: fact for fact in facts.all(Network).values()}
        self._book: dict[str, dict[str, Fact[Port]]] = {}  # VM → network → its entry
        for fact in facts.all(Port).values():
            self._book.setdefault(fact.record.vm, {})[fact.record.network] = fact

    # Networks. One whose record is gone or cannot be read is for a host what it was told of it last.

    def lack(self, vm: Vm, told: Manifest | None = None) -> str:
        """Why a host cannot be told of the VM's ports, in words; "" if it can. told: what it was told last. Of a deleted VM it
        need not know more than that."""
        if vm.deleted_at:
            return ""
        known = self._known(vm, told)
        unknown = next((Network.at(port.network) for port in vm.ports if port.network not in known), None)
        if unknown is None:
            return ""
        return f"the record {unknown} cannot be read" if unknown in self._facts.bad else f"there is no {unknown}"

    def is_behind(self, vm: Fact[Vm]) -> bool:
        """Whether what it lacks may only be on its way: a VM and its first network are written at once, and seen one by one."""
        return self._facts.seen(Network.prefix) < vm.revision

    def revisions(self, vm: Vm, told: Manifest | None = None) -> dict[str, int]:
        before = told.revisions if told else {}
        return {port.network: self._revision(port.network, before) for port in vm.ports}

    def _revision(self, network: str, before: Mapping[str, int]) -> int:
        fact = self._networks.get(network)
        return fact.revision if fact else before.get(network, 0)

    def told(self, vm: Vm, told: Manifest | None = None) -> tuple[ManifestPort, ...]:
        """What a host is to be told of a VM that lacks nothing."""
        known = self._known(vm, told)
        return tuple(
            ManifestPort(network=known[port.network], mac=port.mac, ipv6=port.ipv6, ipv4=port.ipv4, allow=port.allow)
            for port in vm.ports
            if port.network in known
        )

    def rests_on(self, vm: Vm) -> list[Requirement]:
        return [unchanged(fact) for port in vm.ports if (fact := self._networks.get(port.network))]

    def _known(self, vm: Vm, told: Manifest | None) -> Mapping[str, NetworkRef]:
        known = {port.network.id: port.network for port in told.ports} if told else {}
        facts = (self._networks.get(port.network) for port in vm.ports)
        return {**known, **{fact.record.id: ref(fact.record) for fact in facts if fact}}

    # The address book.

    def are_told(self, vm: Vm, told: Manifest) -> bool:
        """Whether what its host was told and the book are as its networks are now; the VM is the one that it was told of."""
        book, before = self._of(vm), told.revisions
        return all(before.get(p.network) == self._revision(p.network, before) and p.network in book for p in vm.ports)

    def are_left(self, vm: Vm) -> bool:
        """Whether there are entries of networks that it was detached from."""
        return bool(self._left(vm))

    def entries(self, vm: Vm, host: str) -> Iterator[tuple[Port | None, Requirement]]:
        """Those to write when this host is told of the VM, each with what that rests on; so does one that is there already: it
        may be released just now."""
        for port in vm.ports:
            before = self._of(vm).get(port.network)
            entry = Port(network=port.network, vm=vm.id, name=vm.name, mac=port.mac, ipv6=port.ipv6, ipv4=port.ipv4, host=host)
            is_there = before is not None and before.record == entry
            yield None if is_there else entry, as_seen(entry.key, before)

    def deleted(self, vm: Vm) -> Iterator[tuple[str, Fact[Port] | None]]:
        """The keys of its ports' entries, with what stands there."""
        for port in vm.ports:
            yield Port.at(port.network, vm.id), self._of(vm).get(port.network)

    def release(self, vm: Fact[Vm], placement: Fact[Placement] | None) -> Iterator[Decision]:
        """Free what ports claimed that the VM was detached from, once no host can have them any more."""
        for entry in self._left(vm.record):
            port, proof = entry.record, self._proof_of_absence(entry.record, placement)
            network = self._networks.get(port.network)
            if proof:
                yield Decision(
                    verb="release",
                    key=vm.key,
                    reason=f"it has left the network {network.record.name if network else port.network}",
                    deletes=(entry.key, *keys.port_claims(port.vm, port)),
                    requires=(unchanged(vm), unchanged(entry), *proof),
                )

    def _of(self, vm: Vm) -> Mapping[str, Fact[Port]]:
        return self._book.get(vm.id, {})

    def _left(self, vm: Vm) -> list[Fact[Port]]:
        networks = {port.network for port in vm.ports}
        return [entry for network, entry in self._of(vm).items() if network not in networks]

    def _proof_of_absence(self, port: Port, placement: Fact[Placement] | None) -> tuple[Requirement, ...]:
        """(): none. A host that confirms a manifest without the port has removed it; one without a status has nothing of the
        VM, and may begin only with what its manifest says."""
        if placement is None or not placement.record.host:
            return (as_seen(Placement.at(port.vm), placement),)
        host = placement.record.host
        manifest = self._facts.get(Manifest, Manifest.at(host, port.vm))
        status = self._facts.get(Status, Status.at(host, "vm", port.vm))
        if manifest is None or any(told.network.id == port.network for told in manifest.record.ports):
            return ()
        if status and status.record.revisions != manifest.record.revisions:
            return ()
        said = as_seen(Status.at(host, "vm", port.vm), status)
        return unchanged(placement), unchanged(manifest), said


def ref(network: Network) -> NetworkRef:
    return NetworkRef(
        id=network.id,
        name=network.name,
        public=network.public,
        vni=network.vni,
        ipv6=network.ipv6,
        ipv4=network.ipv4,
        mtu=network.mtu,
        slaac=network.slaac,
    )
