"""Compares what etcd holds, what is really on the hosts, and what people were told. For clouds in which all is healed.

`findings` answers sentences, none if all is well: nothing is lost, nothing is there twice, nothing is left over.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from tests.integration import network_checks
from tests.integration.clouds import Cloud
from tests.integration.everything import Everything
from tests.integration.people import Remembered, RememberedNetwork
from ucloud.driver.hypervisor.reaper import LEASE_LOST
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Inventory
from ucloud.model.vm import Manifest, Placement, Status
from ucloud.store.contract import Store

OfVm = TypeVar("OfVm", Manifest, Status)

VM_ID = re.compile(r"vm-[0-9a-z]{26}")
MEMORY = ("idempotency", "event")  # of what was: these outlive the VM
STARTED = re.compile(rb"epoch (\d+) boots (\d+)")


def findings(cloud: Cloud, store: Store, told: Sequence[Remembered], networks: Sequence[RememberedNetwork] = ()) -> list[str]:
    seen = Everything(cloud, store)
    checks = [lost(seen, told), twice(seen, told), left_over(seen), unlike(seen), overfull(seen)]
    checks += [network_checks.lost(seen, told, networks), network_checks.unlike(seen)]
    return [finding for check in checks for finding in check]


def lost(seen: Everything, told: Sequence[Remembered]) -> Iterator[str]:
    """What was answered is so."""
    for vm in told:
        record = seen.vms.get(vm.id)
        if vm.id and vm.deleted == "no" and record is None:
            yield f"{vm.name} ({vm.id}) is lost: its create was answered and nobody deleted it"
        if vm.id and vm.deleted == "yes" and record:
            yield f"{vm.name} ({vm.id}) is there although its delete was answered"
        if record and vm.deleted == "no" and vm.power and record.power != vm.power:
            yield f"{vm.name} is {record.power}, and {vm.power} was answered last"
        if record and vm.deleted == "no" and vm.memory_mib and record.memory_mib != vm.memory_mib:
            yield f"{vm.name} has {record.memory_mib} MiB, and {vm.memory_mib} were answered last"


def twice(seen: Everything, told: Sequence[Remembered]) -> Iterator[str]:
    names = Counter(vm.name for vm in seen.vms.values())
    yield from (f"{count} VMs are named {name}" for name, count in names.items() if count > 1)
    known = {vm.id for vm in told}
    unanswered = {vm.name for vm in told if not vm.id}
    for vm in seen.vms.values():
        if vm.id not in known and vm.name not in unanswered:
            yield f"{vm.name} ({vm.id}) was made by no request, or by one that was repeated"
    homes, owners = defaultdict[str, set[str]](set), defaultdict[tuple[str, int], set[str]](set)
    for host, machine in seen.hosts.items():
        for id, trace in machine.items():
            for life in trace.log.split(LEASE_LOST):  # a guest that was killed for want of a lease may be started again
                starts = Counter(STARTED.findall(life))
                yield from (f"{id} was started {n} times for {what}" for what, n in starts.items() if n > 1)
            for epoch, _ in STARTED.findall(trace.log):
                owners[id, int(epoch)].add(host)
            if trace.guest:
                homes[id].add(host)
    yield from (f"{id} has guests on {', '.join(sorted(hosts))}" for id, hosts in homes.items() if len(hosts) > 1)
    for (id, epoch), hosts in owners.items():
        if len(hosts) > 1:
            yield f"{id} was started under epoch {epoch} on {', '.join(sorted(hosts))}"


def left_over(seen: Everything) -> Iterator[str]:
    yield from (f"the key {key} is of no known kind" for key in seen.strange)
    yield from (f"a disk of {vm} is left over" for vm in sorted(seen.disks - set(seen.vms)))
    for host, machine in seen.hosts.items():
        yield from (f"something of {vm} is left over on {host}" for vm in sorted(set(machine) - set(seen.vms)))
    for key, record in seen.records.items():
        if key.split("/")[0] in MEMORY:
            continue
        owner = [record.owner] if isinstance(record, Unique) else []
        gone = {id for id in [*VM_ID.findall(key), *owner] if id.startswith("vm-")} - set(seen.vms)
        if gone:
            yield f"the key {key} is left over from {', '.join(gone)}"
        if isinstance(record, Inventory) and record.stray_vms:
            yield f"{record.host} reports strays: {', '.join(record.stray_vms)}"


def unlike(seen: Everything) -> Iterator[str]:
    """Every VM has exactly the records and the guest that its owner asked for."""
    placements = {placement.vm: placement for placement in seen.all(Placement)}
    manifests, statuses = by_vm(seen.all(Manifest)), by_vm(seen.all(Status))
    for vm in seen.vms.values():
        placement = placements.get(vm.id)
        if vm.deleted_at or placement is None or not placement.host:
            yield f"{vm.name} is {'not gone' if vm.deleted_at else 'not placed'}: {placement.reason if placement else ''}"
            continue
        host, phase = placement.host, "running" if vm.power == "on" else "stopped"
        for kind, found in (("manifests", manifests[vm.id]), ("statuses", statuses[vm.id])):
            if [record.host for record in found] != [host]:
                yield f"{vm.name} is on {host}, and has {kind} on {[record.host for record in found]}"
        if any(told.memory_mib != vm.memory_mib for told in manifests[vm.id]):
            yield f"{vm.name} should have {vm.memory_mib} MiB, and {host} was told otherwise"
        if [status.phase for status in statuses[vm.id]] != [phase]:
            yield f"{vm.name} should be {phase} and is said to be {[status.phase for status in statuses[vm.id]]}"
        trace = seen.hosts[host].get(vm.id)
        guest = trace.guest if trace else None
        wanted = (placement.epoch, vm.boots, "running") if vm.power == "on" else None
        if (guest and (guest.epoch, guest.boots, guest.state)) != wanted:
            yield f"{vm.name} should have a guest like {wanted} and has {guest}"
        if guest and vm.id not in seen.disks:
            yield f"{vm.name} runs without its disk"


def by_vm(records: Iterable[OfVm]) -> Mapping[str, list[OfVm]]:
    found: dict[str, list[OfVm]] = defaultdict(list)
    for record in records:
        found[record.vm].append(record)
    return found


def overfull(seen: Everything) -> Iterator[str]:
    used: Counter[str] = Counter()
    for manifest in seen.all(Manifest):
        used[manifest.host] += manifest.memory_mib
    for inventory in seen.all(Inventory):
        if used[inventory.host] > inventory.memory_mib:
            yield f"{inventory.host} has {inventory.memory_mib} MiB and {used[inventory.host]} are promised"
