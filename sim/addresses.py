"""Networks and addresses as they stand in the store, commit by commit, and what must hold of them. Used by `sim.invariants`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from sim.records import Records
from sim.world import Violation
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.model.network import Network, Port
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Vm
from ucloud.store.memory import MemoryStore


class Addresses:
    """networks: those that are there; created: all that ever were. told: host → networks that it was ever told of.
    interfaces: (host, VM) → MACs with which its guest there can send."""

    def __init__(self, store: MemoryStore, records: Records) -> None:
        self.networks: dict[str, Network] = {}
        self.created: set[str] = set()
        self.told: dict[str, set[str]] = defaultdict(set)
        self.interfaces: dict[tuple[str, str], frozenset[str]] = {}
        self._store, self._records = store, records

    def committed(self, puts: Mapping[str, bytes], deletes: Collection[str], requires: Collection[Requirement]) -> None:
        """The store is as after this commit, and so are `records`."""
        compared = {requirement.key for requirement in requires if isinstance(requirement, Unchanged)}
        for key in deletes:
            match key.split("/"):
                case ["network", id]:
                    self._delete(id, requires)
                case ["use", "network", network, vm] if Port.at(network, vm) not in compared:
                    raise Violation(f"{key} is given up without regard to whether a host was told of it")
                case ["unique", "address", network, address]:
                    self._release(network, address)
                case ["port", network, vm]:
                    self._leave_book(network, vm)
        for key, value in puts.items():
            match key.split("/"):
                case ["network", id]:
                    self.networks[id] = decode(Network, value)[0]
                    self.created.add(id)
                case ["vm", id]:
                    self._check_claims(self._records.vms[id])
                case ["manifest", host, vm]:
                    self._tell(self._records.manifests[host][vm])

    def owner(self, path: str) -> str:
        item = self._store.get(path)
        return decode(Unique, item.value)[0].owner if item else "nobody"

    def check_owner(self, vm: str, vni: int, mac: str, addresses: Collection[str]) -> None:
        """A guest of this VM is about to get an interface with these."""
        network = next(network.id for network in self.networks.values() if network.vni == vni)
        for address in (mac, *(address for address in addresses if ":" not in address)):
            if (owner := self.owner(keys.unique("address", network, address))) != vm:
                raise Violation(f"{vm} gets an interface with {address} in {network}, which is {owner}'s")

    def _check_claims(self, vm: Vm) -> None:
        for port in vm.ports:
            if port.network not in self.networks:
                raise Violation(f"{vm.id} is on {port.network}, which is not there")
            for path in keys.port_claims(vm.id, port):
                if (owner := self.owner(path)) != vm.id:
                    raise Violation(f"{vm.id} has a port that needs {path}, which is {owner}'s")

    def _tell(self, manifest: Manifest) -> None:
        for port in manifest.ports:
            self.told[manifest.host].add(port.network.id)
            if self._store.get(Port.at(port.network.id, manifest.vm)) is None:
                raise Violation(f"{manifest.host} is told of {manifest.vm} on {port.network.id}, and the address book is not")

    def _delete(self, id: str, requires: Iterable[Requirement]) -> None:
        if self.networks.pop(id, None) is None:
            raise Violation(f"{id} is deleted again")
        if keys.used_by("network", id) not in {r.prefix for r in requires if isinstance(r, NotNewer) and r.revision == 0}:
            raise Violation(f"{id} is deleted without regard to who uses it")
        wanted = {vm.id for vm in self._records.vms.values() if any(port.network == id for port in vm.ports)}
        if users := sorted(wanted | set(self._told_of(id))):
            raise Violation(f"{id} is deleted though {users[0]} is on it, or was a moment ago as far as its host knows")

    def _release(self, network: str, address: str) -> None:
        for vm in self._records.vms.values():
            if any(port.network == network and address in (port.mac, port.ipv4) for port in vm.ports):
                raise Violation(f"{address} in {network} may be given again, and {vm.id} has it")
        for (host, id), macs in self.interfaces.items():
            is_fenced = self._store.get(keys.fence(host)) is not None  # then none of its guests outlives its return
            if address in macs and not is_fenced:
                raise Violation(f"{address} in {network} may be given again, and the guest of {id} has an interface with it")

    def _leave_book(self, network: str, vm: str) -> None:
        if vm in self._told_of(network):
            raise Violation(f"{vm} leaves the address book of {network}, and its host is told that it is there")

    def _told_of(self, network: str) -> list[str]:
        manifests = (manifest for told in self._records.manifests.values() for manifest in told.values())
        return [manifest.vm for manifest in manifests if any(port.network.id == network for port in manifest.ports)]
