"""What must hold after every event, however many calls failed before. Each check sits where its truth can change: at every
commit that happens and at every act on a guest or a disk, so that nothing needs to be searched through again and again.

    1  a VM never has two guests that could write to its disk, and never is written to under an older epoch after a guest of a
       later one has written (sim.storage)
    2  neither a host's guests nor its manifests exceed its memory, nor its manifests its cores as often as they may be promised
    3  nothing is made for a VM before its host's status says `starting`, of that epoch and boot; a host begins to speak of a
       VM only while a manifest names it there
    4  a guest is started again for the same epoch and boot only after it crashed or its host lost power
    5  a disk is removed only from a deleted VM without a guest; a VM's record only when it is deleted; an image never while a
       VM needs it, which its deletion must rest on
    6  every key has one writer, who compares and reads no more than DESIGN §2 says; of each loop only the leader writes
    7  nobody decides against what it has written itself, nor on an old view (checked by sim.store.Connection)
    8  a VM is placed where its wishes allow, on a host that is alive and enabled; VMs of a group are never together, and
       each placement rests on what its host, and every host where a VM of its group must not be, was told
    9  names are unique; what is deleted stays deleted, and was asked to be; boots only rise (sim.records)
    10 a request is carried out once, whatever becomes of its answers, and no answer denies it (sim.promises)
    11 nobody touches a record that it cannot read
    12 a VM is resized only while it has no host, or is stopped there; a manifest that grows rests on what else its host was
       told; no guest has more than its manifest says; one that starts has a size that its VM was wanted to have when people
       were told that a resize is done, or later (sim.sizes)
    13 a VM's port has claimed its addresses, and they are nobody else's until no guest of it has an interface with them; the
       address book has it whenever its host is told of it; a network is deleted only when no VM is on it and no host is told
       of one (sim.addresses)
    14 a guest gets an interface only where it is plugged in and filtered; network and filter are there before the plug and go
       after it, and a guest that has it keeps it as long as its host is told so; a host's part of a VM is gone before its
       status is (sim.links)
    15 the keys and the user data that a VM has are there, and claimed, until it has them no more; a host that is told of a VM
       has a copy of its user data as long as it is told so; a default key is there (sim.handouts)
    16 a host is declared dead only while it has no heartbeat; no host begins anything under a fence; a VM goes elsewhere only
       if nothing of it can be written from where it was without asking for a lock, and if it wants to (sim.fences)
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from sim.addresses import Addresses
from sim.fences import Fences
from sim.handouts import Handouts
from sim.promises import Promises
from sim.records import CPU_OVERCOMMIT as CPU_OVERCOMMIT
from sim.records import Records
from sim.sizes import Wanted
from sim.storage import Storage
from sim.world import Violation, World
from ucloud.model import keys
from ucloud.model.bookkeeping import Lock
from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.model.guest import GuestSpec
from ucloud.model.image import Image
from ucloud.model.key import Blob
from ucloud.model.kinds import kind_of
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Placement, Status
from ucloud.store.memory import MemoryStore

PUTS = {
    "scheduler": ("placement/", "manifest/", "port/", "event/scheduler/", "lock/scheduler"),
    "hostmanager": ("fence/", "cluster/hold", "event/hostmanager/", "lock/hostmanager"),
    "image": ("imagestate/", "event/image/", "lock/image"),
    "idempotency": ("event/idempotency/", "lock/idempotency"),
    "api": (
        *("vm/", "unique/", "use/image/", "use/network/", "host/", "image/", "network/", "idempotency/"),
        "cluster/failover",
        *("key/", "project/", "blob/", "use/key/", "use/blob/"),
    ),
}
DELETES = {
    "scheduler": (
        *("placement/", "manifest/", "port/", "vm/", "unique/vm/", "use/image/", "event/scheduler/"),
        *("use/network/", "unique/address/", "use/key/", "use/blob/", "blob/"),
    ),
    "hostmanager": ("fence/", "cluster/hold", "event/hostmanager/", "status/", "host/", "unique/host/"),
    "image": ("image/", "imagestate/", "unique/image/", "use/image/", "event/image/"),
    "idempotency": ("idempotency/", "event/idempotency/"),
    "api": (
        "unique/vm/",  # of a VM that gets another name
        *("use/network/", "unique/address/"),  # of a port that no host was told of
        *("network/", "unique/network/", "unique/vni/", "unique/subnet/", "unique/ipv4/"),
        *("key/", "unique/key/", "unique/keydata/", "use/key/", "use/blob/"),
    ),
}
NOT_LED = ("lock/", "event/")
MAY_START_AGAIN = ("crash", "power loss", "lease lost", "fence")


class Invariants:
    """`capacity`: host → cores and MiB."""

    def __init__(self, world: World, store: MemoryStore, capacity: Mapping[str, tuple[int, int]], storage: Storage) -> None:
        self.records, self.promises = Records(store, capacity), Promises()
        self.addresses, self.handouts = Addresses(store, self.records), Handouts(store, self.records)
        self.traces: dict[str, Callable[[str], list[str]]] = {}  # host → what it has of the ports of a VM
        self.guests: dict[tuple[str, str], GuestSpec] = {}  # (host, VM) → what runs there
        self.ends: dict[tuple[str, int, int], str] = {}  # (VM, epoch, boots) → how its last guest ended
        self.fences = Fences(store, self.records, storage)
        self._world, self._store, self._capacity, self.storage = world, store, capacity, storage

    # The store.

    def reading(self, who: str, key: str) -> None:
        if who in self._capacity:
            own = (keys.manifests(who), keys.statuses(who), f"alive/{who}", keys.fence(who), f"event/{who}/")
            books = map(keys.ports, self.addresses.told[who])
            self._only(who, "reads", [key], (*own, *books))

    def committed(
        self, who: str, loop: str, puts: Mapping[str, bytes], deletes: Iterable[str], requires: Iterable[Requirement]
    ) -> None:
        """By a loop of this process; `api` and `lease` are loops too."""
        if who in self._capacity:
            own = (f"alive/{who}",) if loop == "lease" else (keys.statuses(who), f"event/{who}/")
            compared = [r.key if isinstance(r, Unchanged) else r.prefix for r in requires]
            self._only(who, "writes", [*puts, *deletes], own)
            self._only(who, "compares", compared, (*own, keys.manifests(who), keys.fence(who)))
            if f"alive/{who}" in puts and f"alive/{who}" not in compared:
                raise Violation(f"{who} says that it is alive over whatever stands there")  # and may do so late
        else:
            self._only(who, "puts", puts, PUTS[loop])
            self._only(who, "deletes", deletes, DELETES[loop])
            if loop == "api":
                self._rests_on_nobody(puts, {r.prefix for r in requires if isinstance(r, NotNewer) and r.revision == 0})
            if loop == "scheduler":
                compared_prefixes = {r.prefix for r in requires if isinstance(r, NotNewer)}
                self._rests_on_neighbours(puts, compared_prefixes)
                self._rests_on_room(puts, compared_prefixes)
            if loop != "api" and not all(key.startswith(NOT_LED) for key in (*puts, *deletes)):
                self._leads(who, loop)
        for key in (*puts, *deletes):
            is_known = key.startswith(Blob.prefix) or key == f"status/{who}/reconciled"  # whatever stands there
            if key in self.records.spoiled and not is_known:
                raise Violation(f"{who} writes over {key}, which it cannot have read")
            self.records.spoiled.pop(key, None)
        self.promises.committed(puts)
        self.fences.committed(puts, tuple(deletes))
        for key in deletes:
            self.records.delete(key)
        for key, value in puts.items():
            self.records.put(key, value)
        self.addresses.committed(puts, tuple(deletes), tuple(requires))
        self.handouts.committed(puts, tuple(deletes), tuple(requires))
        for key in deletes:
            self._leaves_nothing(key)
        for host, vm in sorted(tuple(key.split("/")[1:]) for key in puts if kind_of(key) is Manifest):
            if (host, vm) in self.guests:
                self._fits(host, self.guests[host, vm])

    def _leaves_nothing(self, key: str) -> None:
        match key.split("/"):
            case ["status", host, "vm", vm] if traces := self.traces[host](vm):
                raise Violation(f"{host} says that nothing of {vm} is left, and has {traces[0]}")

    def _only(self, who: str, does: str, keys: Iterable[str], allowed: tuple[str, ...]) -> None:
        for key in keys:
            if not any(key == own or (own.endswith("/") and key.startswith(own)) for own in allowed):
                raise Violation(f"{who} {does} {key}, which is not its own")

    def _rests_on_nobody(self, puts: Mapping[str, bytes], compared: set[str]) -> None:
        for image in (decode(Image, value)[0] for key, value in puts.items() if key.startswith(Image.prefix)):
            before = self.records.images.get(image.id)
            is_new = image.deleted_at and not (before and before.deleted_at)
            if is_new and keys.used_by("image", image.id) not in compared:
                raise Violation(f"{image.key} is deleted without regard to who uses it")

    def _rests_on_neighbours(self, puts: Mapping[str, bytes], compared: set[str]) -> None:
        placements = [decode(Placement, value)[0] for key, value in puts.items() if key.startswith(Placement.prefix)]
        for placement in placements:
            if self.records.vms[placement.vm].deleted_at:
                continue  # it takes nothing of what its host has
            if f"manifest/{placement.host}/{placement.vm}" in puts and self.records.is_new(placement):
                for host in (placement.host, *self.records.neighbours(placement)):
                    if keys.manifests(host) not in compared:
                        raise Violation(f"{placement.key} does not rest on what else {host} was told of")

    def _rests_on_room(self, puts: Mapping[str, bytes], compared: set[str]) -> None:
        for key in (key for key in puts if kind_of(key) is Manifest):
            new = decode(Manifest, puts[key])[0]
            old = self.records.told(new.host, new.vm)
            if old and (new.cpus > old.cpus or new.memory_mib > old.memory_mib) and keys.manifests(new.host) not in compared:
                raise Violation(f"{key} grows, and does not rest on what else {new.host} was told of")

    def _leads(self, who: str, loop: str) -> None:
        item = self._store.get(keys.lock(loop))
        if item is None or decode(Lock, item.value)[0].owner != who:
            raise Violation(f"{who} decides for the {loop} loop without being its leader")

    # Hosts and pools.

    def making(self, host: str, vm: str, what: str) -> Status:
        """Something is about to be made for this VM."""
        value = self.records.get(Status.at(host, "vm", vm))
        if value is None:
            raise Violation(f"{host} makes {what} for {vm} without having said `starting`")
        return msgspec.json.decode(value, type=Status)

    def starting(self, host: str, spec: GuestSpec, disk_mib: int) -> None:
        status = self.making(host, spec.vm, "a guest")
        # A phase other than `starting` may stand there: a commit that was given up and happened late.
        if (status.epoch, status.boots) != (spec.epoch, spec.boots) or status.phase == "off":
            raise Violation(
                f"{host} starts {spec.vm} boot {spec.boots} while its status says {status.phase} boot {status.boots}"
            )
        for other, vm in self.guests:
            if vm == spec.vm and self.storage.is_open(other, vm):
                raise Violation(f"{vm} is started on {host} and runs on {other} already")
        end = self.ends.get((spec.vm, spec.epoch, spec.boots))
        if end and end not in MAY_START_AGAIN:
            raise Violation(f"{spec.vm} boot {spec.boots} is started again after this end: {end}")
        self._fits(host, spec)
        self.records.sizes.starting(spec.vm, Wanted(spec.cpus, spec.memory_mib, disk_mib))
        self.guests[host, spec.vm] = spec
        self.wired(host, spec.vm, frozenset(nic.mac for nic in spec.nics))
        used_mib = sum(other.memory_mib for (where, _), other in self.guests.items() if where == host)
        if used_mib > self._capacity[host][1]:
            raise Violation(f"{host} runs guests with {used_mib} MiB; it has {self._capacity[host][1]}")

    def wired(self, host: str, vm: str, macs: frozenset[str]) -> None:
        """Its guest runs there and has these interfaces now."""
        self.addresses.interfaces[host, vm] = macs

    def needs(self, host: str, vm: str, mac: str) -> bool:
        """Its guest has this interface, and was never told to lose it."""
        told = self.records.told(host, vm)
        is_told = told is not None and told.want == "running" and any(port.mac == mac for port in told.ports)
        return is_told and mac in self.addresses.interfaces.get((host, vm), ())

    def _fits(self, host: str, spec: GuestSpec) -> None:
        told = self.records.told(host, spec.vm)
        if told is None or spec.cpus > told.cpus or spec.memory_mib > told.memory_mib:
            has = f"{spec.cpus} cores and {spec.memory_mib} MiB"
            raise Violation(f"{spec.vm} on {host} has {has}, more than its manifest says: {told}")

    def ended(self, host: str, vm: str, how: str) -> None:
        spec = self.guests.pop((host, vm))
        self.addresses.interfaces.pop((host, vm), None)
        is_fenced = how == "kill" and self._store.get(keys.fence(host)) is not None
        self.ends[vm, spec.epoch, spec.boots] = "fence" if is_fenced else how

    def removing_disk(self, host: str, vm: str) -> None:
        record = self.records.vms.get(vm)
        if record and not record.deleted_at:
            raise Violation(f"{host} removes the disk of {vm}, which is not deleted")
        if (host, vm) in self.guests:
            raise Violation(f"{host} removes the disk of {vm} under its guest")

    def removing_image(self, image: str) -> None:
        if users := self.records.users_of(image):
            raise Violation(f"{image} is removed from its pool though {users[0]} needs it")
