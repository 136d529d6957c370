"""What hosts have and what of it is taken: shown with hosts, and asked before a VM is accepted that no host could ever hold."""

from typing import NamedTuple

from ucloud.api.services import services
from ucloud.base.errors import NoCapacity
from ucloud.model.host import Host, Inventory
from ucloud.model.size import Size
from ucloud.model.vm import Manifest
from ucloud.store.view import View


def total(host: Host, inventory: Inventory | None) -> Size | None:
    """The smaller of what was agreed and what the host reports. None: not known yet."""
    if inventory is None:
        return Size(host.cpus, host.memory_mib) if host.cpus and host.memory_mib else None
    return Size(*host.capacity(inventory))


def refuse_too_large(wanted: Size, wish: str = "") -> None:
    """Raises NoCapacity if no host that matches `wish` has that much in total. While the size of one is not known, nothing is
    refused."""
    with services().view.reading() as view:
        hosts = [fact.record for fact in view.all(Host).values() if fact.record.matches(wish)]
        sizes = [total(host, inventory_of(view, host.id)) for host in hosts]
    known = [size for size in sizes if size]
    if not known or len(known) < len(sizes) or any(s.cpus >= wanted.cpus and s.memory_mib >= wanted.memory_mib for s in known):
        return
    largest = ", ".join(map(str, sorted(set(known), reverse=True)[:3]))
    among = " that it may run on" if wish else ""
    raise NoCapacity(f"no host{among} has {wanted} of memory in total; the largest have {largest}", wanted._asdict())


def inventory_of(view: View, host: str) -> Inventory | None:
    fact = view.get(Inventory, Inventory.at(host, "inventory"))
    return fact.record if fact else None


class Taken(NamedTuple):
    vms: int = 0
    cpus: int = 0
    memory_mib: int = 0


def taken(view: View) -> dict[str, Taken]:
    """By host, of all VMs that it was told of: what the scheduler counts, too."""
    sums: dict[str, Taken] = {}
    for fact in view.all(Manifest).values():
        told = fact.record
        old = sums.get(told.host, Taken())
        sums[told.host] = Taken(old.vms + 1, old.cpus + told.cpus, old.memory_mib + told.memory_mib)
    return sums
