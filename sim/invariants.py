"""What must hold after every event, however many calls failed before. Each check sits where its truth can change: at every
commit that happens and at every act on a guest or a disk, so that nothing needs to be searched through again and again.

    1  a VM never has two guests anywhere
    2  neither a host's guests nor its manifests exceed its memory
    3  nothing is made for a VM before its host's status says `starting`, of that epoch and boot
    4  a guest is started again for the same epoch and boot only after it crashed or its host lost power
    5  a disk is removed only from a deleted VM without a guest; a VM's record only when it is deleted
    6  every key has one writer, who compares and reads no more than DESIGN §2 says; of schedulers only the leader writes
    7  nobody decides against what it has written itself: an answer lost is not a no (checked by sim.store.Connection)
"""

from collections.abc import Iterable, Mapping

import msgspec

from sim.world import Violation, World
from ucloud.model import keys
from ucloud.model.bookkeeping import Lock
from ucloud.model.decision import Requirement, Unchanged
from ucloud.model.guest import GuestSpec
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Status, Vm
from ucloud.store.memory import MemoryStore

CONTROL_PUTS = ("placement/", "manifest/", "lock/scheduler")
CONTROL_DELETES = ("placement/", "manifest/", "vm/", "unique/vm/", "use/image/")
USER_PUTS = ("vm/", "unique/vm/", "use/image/", "host/")
MAY_START_AGAIN = ("crash", "power loss")


class Invariants:
    def __init__(self, world: World, store: MemoryStore, memory_mib: Mapping[str, int]) -> None:
        self.vms: dict[str, Vm] = {}  # as they are in the store
        self.created: set[str] = set()  # every VM that ever was there
        self.guests: dict[str, tuple[str, GuestSpec]] = {}  # VM → host and what runs there
        self.ends: dict[tuple[str, int, int], str] = {}  # (VM, epoch, boots) → how its last guest ended
        self._world, self._store, self._memory_mib = world, store, memory_mib
        self._manifests: dict[str, dict[str, int]] = {host: {} for host in memory_mib}  # host → VM → MiB

    # The store.

    def reading(self, who: str, key: str) -> None:
        if who in self._memory_mib:
            self._only(who, "reads", [key], (keys.manifests(who), keys.statuses(who), f"alive/{who}", keys.fence(who)))

    def committed(self, who: str, puts: Mapping[str, bytes], deletes: Iterable[str], requires: Iterable[Requirement]) -> None:
        if who in self._memory_mib:
            own = (keys.statuses(who), f"alive/{who}")
            compared = [r.key if isinstance(r, Unchanged) else r.prefix for r in requires]
            self._only(who, "writes", [*puts, *deletes], own)
            self._only(who, "compares", compared, (*own, keys.manifests(who), keys.fence(who)))
        elif who.startswith("control"):
            self._only(who, "puts", puts, CONTROL_PUTS)
            self._only(who, "deletes", deletes, CONTROL_DELETES)
            self._leads(who, puts)
        else:
            self._only(who, "puts", puts, USER_PUTS)
            self._only(who, "deletes", deletes, ())
        for key in deletes:
            self._deleted(key)
        for key, value in puts.items():
            self._put(key, value)

    def _only(self, who: str, does: str, keys: Iterable[str], allowed: tuple[str, ...]) -> None:
        for key in keys:
            if not any(key == own or (own.endswith("/") and key.startswith(own)) for own in allowed):
                raise Violation(f"{who} {does} {key}, which is not its own")

    def _leads(self, who: str, puts: Mapping[str, bytes]) -> None:
        item = self._store.get(keys.lock("scheduler"))
        if item is None or decode(Lock, item.value)[0].owner != who:
            raise Violation(f"{who} decides without being the leader")

    def _deleted(self, key: str) -> None:
        kind, *names = key.split("/")
        if kind == "manifest":
            self._manifests[names[0]].pop(names[1], None)
        elif kind == "vm":
            vm = self.vms.pop(names[0], None)
            if vm and not vm.deleted_at:
                raise Violation(f"the record of {vm.id} is removed though nobody deleted it")

    def _put(self, key: str, value: bytes) -> None:
        if key.startswith("vm/"):
            vm = decode(Vm, value)[0]
            self.vms[vm.id] = vm
            self.created.add(vm.id)
        elif key.startswith("manifest/"):
            manifest = decode(Manifest, value)[0]
            told = self._manifests[manifest.host]
            told[manifest.vm] = manifest.memory_mib
            self._fits(manifest.host, "was told of VMs with", sum(told.values()))

    def _fits(self, host: str, what: str, memory_mib: int) -> None:
        if memory_mib > self._memory_mib[host]:
            raise Violation(f"{host} {what} {memory_mib} MiB; it has {self._memory_mib[host]}")

    def free_mib(self, host: str) -> int:
        return self._memory_mib[host] - sum(self._manifests[host].values())

    # Hosts.

    def making(self, host: str, vm: str, what: str) -> Status:
        """Something is about to be made for this VM."""
        item = self._store.get(Status.at(host, "vm", vm))
        if item is None:
            raise Violation(f"{host} makes {what} for {vm} without having said `starting`")
        return msgspec.json.decode(item.value, type=Status)

    def starting(self, host: str, spec: GuestSpec) -> None:
        status = self.making(host, spec.vm, "a guest")
        # A phase other than `starting` may stand there: a commit that was given up and happened late.
        if (status.epoch, status.boots) != (spec.epoch, spec.boots) or status.phase == "off":
            raise Violation(
                f"{host} starts {spec.vm} boot {spec.boots} while its status says {status.phase} boot {status.boots}"
            )
        if spec.vm in self.guests:
            raise Violation(f"{spec.vm} is started on {host} and runs on {self.guests[spec.vm][0]} already")
        end = self.ends.get((spec.vm, spec.epoch, spec.boots))
        if end and end not in MAY_START_AGAIN:
            raise Violation(f"{spec.vm} boot {spec.boots} is started again after this end: {end}")
        self.guests[spec.vm] = (host, spec)
        here = [other.memory_mib for where, other in self.guests.values() if where == host]
        self._fits(host, "runs guests with", sum(here))

    def ended(self, host: str, vm: str, how: str) -> None:
        where, spec = self.guests.pop(vm, ("", None))
        if spec and where == host:
            self.ends[vm, spec.epoch, spec.boots] = how

    def removing_disk(self, host: str, vm: str) -> None:
        record = self.vms.get(vm)
        if record and not record.deleted_at:
            raise Violation(f"{host} removes the disk of {vm}, which is not deleted")
        if vm in self.guests:
            raise Violation(f"{host} removes the disk of {vm} under its guest")
