"""What hosts have and what of it is taken: shown with hosts, and asked before a VM is accepted that no host could ever hold."""

from typing import NamedTuple

from ucloud.api.services import services
from ucloud.base.errors import NoCapacity
from ucloud.model.host import Host, Inventory
from ucloud.model.vm import Placement, Vm
from ucloud.store.view import View


class Room(NamedTuple):
    cpus: int
    memory_mib: int

    def __str__(self) -> str:
        return f"{self.cpus} {'core' if self.cpus == 1 else 'cores'} and {self.memory_mib} MiB"


def total(host: Host, inventory: Inventory | None) -> Room | None:
    """The smaller of what was agreed and what the host reports. None: not known yet."""
    if inventory is None:
        return Room(host.cpus, host.memory_mib) if host.cpus and host.memory_mib else None
    return Room(*host.capacity(inventory))


def refuse_too_large(cpus: int, memory_mib: int, wish: str = "") -> None:
    """Raises NoCapacity if no host that matches `wish` has that much in total. While the size of one is not known, nothing is
    refused."""
    with services().view.reading() as view:
        hosts = [fact.record for fact in view.all(Host).values() if fact.record.matches(wish)]
        rooms = [total(host, inventory_of(view, host.id)) for host in hosts]
    known = [room for room in rooms if room]
    if not known or len(known) < len(rooms) or any(r.cpus >= cpus and r.memory_mib >= memory_mib for r in known):
        return
    largest = ", ".join(map(str, sorted(set(known), reverse=True)[:3]))
    raise NoCapacity(
        f"no host has {Room(cpus, memory_mib)} of memory in total; the largest have {largest}",
        {"cpus": cpus, "memory_mib": memory_mib},
    )


def inventory_of(view: View, host: str) -> Inventory | None:
    fact = view.get(Inventory, Inventory.at(host, "inventory"))
    return fact.record if fact else None


class Taken(NamedTuple):
    vms: int = 0
    cpus: int = 0
    memory_mib: int = 0


def taken(view: View) -> dict[str, Taken]:
    """By host, of all VMs placed on it."""
    sums: dict[str, Taken] = {}
    for fact in view.all(Placement).values():
        vm = view.get(Vm, Vm.at(fact.record.vm))
        if fact.record.host and vm:
            old = sums.get(fact.record.host, Taken())
            sums[fact.record.host] = Taken(old.vms + 1, old.cpus + vm.record.cpus, old.memory_mib + vm.record.memory_mib)
    return sums
