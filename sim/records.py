"""What stands in the store, commit by commit, and what must hold of it. Used by `sim.invariants` alone."""

from collections import Counter
from collections.abc import Mapping

from sim.sizes import Sizes, size_of
from sim.world import Violation
from ucloud.model.host import Alive, Host
from ucloud.model.image import Image
from ucloud.model.kinds import kind_of
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.scheduler.hosts import place_of
from ucloud.store.memory import MemoryStore

CPU_OVERCOMMIT = 2.0


class Records:
    """`capacity`: host → cores and MiB. All that is here is as in the store, but for `spoiled`: keys under which a hand has
    written what makes no sense, with what stood there before."""

    def __init__(self, store: MemoryStore, capacity: Mapping[str, tuple[int, int]]) -> None:
        self.vms: dict[str, Vm] = {}
        self.images: dict[str, Image] = {}
        self.hosts: dict[str, Host] = {}
        self.created: set[str] = set()  # every VM that ever was there
        self.unwanted: set[str] = set()  # VMs and images that somebody asked to delete
        self.sizes = Sizes()
        self.spoiled: dict[str, bytes] = {}
        self.once_spoiled: set[str] = set()
        self._placements: dict[str, Placement] = {}
        self.manifests: dict[str, dict[str, Manifest]] = {host: {} for host in capacity}
        self._statuses: set[str] = set()
        self.names: dict[str, str] = {}  # of VMs; and how often each became free
        self.freed: Counter[str] = Counter()
        self._store, self._capacity = store, capacity

    def get(self, key: str) -> bytes | None:
        """What stands there, or stood there before a hand spoiled it."""
        item = self._store.get(key)
        return self.spoiled.get(key, item.value) if item else None

    def spoil(self, key: str, value: bytes) -> None:
        self.spoiled[key] = value
        self.once_spoiled.add(key)

    def put(self, key: str, value: bytes) -> None:
        if key.startswith("vm/"):
            self._put_vm(decode(Vm, value)[0])
        elif key.startswith("image/"):
            self._put_image(decode(Image, value)[0])
        elif key.startswith("placement/"):
            self._put_placement(decode(Placement, value)[0])
        elif kind_of(key) is Manifest:
            self._put_manifest(decode(Manifest, value)[0])
        elif key.startswith("status/"):
            self._put_status(key)
        elif key.startswith("host/"):
            host = decode(Host, value)[0]
            self.hosts[host.id] = host

    def delete(self, key: str) -> None:
        kind, *names = key.split("/")
        if kind == "status":
            self._statuses.discard(key)
        elif kind == "manifest":
            self.manifests[names[0]].pop(names[1], None)
        elif kind == "placement":
            self._placements.pop(names[0], None)
        elif kind == "image":
            self.images.pop(names[0], None)
        elif kind == "vm" and (vm := self.vms.pop(names[0], None)):
            if not vm.deleted_at:
                raise Violation(f"the record of {vm.id} is removed though nobody deleted it")
            self._free_name(vm.name)

    def left(self, host: str) -> tuple[float, int]:
        """Cores, as often as they may be promised, and MiB that no manifest takes."""
        cpus, memory_mib = self._capacity[host]
        told = self.manifests[host].values()
        return cpus * CPU_OVERCOMMIT - sum(m.cpus for m in told), memory_mib - sum(m.memory_mib for m in told)

    def told(self, host: str, vm: str) -> Manifest | None:
        return self.manifests[host].get(vm)

    def placement(self, vm: str) -> Placement | None:
        return self._placements.get(vm)

    def is_new(self, placement: Placement) -> bool:
        """Whether it gives its VM a host."""
        before = self._placements.get(placement.vm)
        return placement.host != "" and (before is None or before.host != placement.host)

    def neighbours(self, placement: Placement) -> list[str]:
        """Other hosts where none of the VM's group may be, as far as everybody can read, and always could."""
        vm, host = self.vms.get(placement.vm), self.hosts[placement.host]
        if vm is None or not vm.spread:
            return []
        others = [other for other in self.hosts.values() if other.id != host.id and place_of(vm, other) == place_of(vm, host)]
        return [other.id for other in others if other.key not in self.once_spoiled]

    def mates_at(self, vm: Vm, host: str) -> list[str]:
        """Those that are where it must be alone."""
        if not vm.spread:
            return []
        place, hosts = place_of(vm, self.hosts[host]), {id: placement.host for id, placement in self._placements.items()}
        mates = [mate.id for mate in self.vms.values() if mate.spread == vm.spread and mate.id != vm.id]
        there = [mate for mate in mates if hosts.get(mate) and place_of(vm, self.hosts[hosts[mate]]) == place]
        told = {mate: self.told(hosts[mate], mate) for mate in there}
        return [mate for mate, manifest in told.items() if manifest is None or manifest.cpus]  # without any it is to be removed

    def users_of(self, image: str) -> list[str]:
        return [vm.id for vm in self.vms.values() if vm.image == image]

    def _put_vm(self, vm: Vm) -> None:
        before = self.vms.get(vm.id)
        if before is None:
            self._create(vm)
        elif before.name != vm.name:
            self._take_name(vm)
            self._free_name(before.name)
        elif before.deleted_at and not vm.deleted_at:
            raise Violation(f"{vm.id} was deleted, and is wanted again")
        elif vm.boots < before.boots:
            raise Violation(f"{vm.id} was told to boot for the {before.boots}th time, and now for the {vm.boots}th")
        if vm.deleted_at and vm.id not in self.unwanted:
            raise Violation(f"{vm.id} is deleted though nobody asked for it")
        if before and size_of(vm) != size_of(before):
            self._check_rest(vm.id)
        self.vms[vm.id] = vm
        if item := self._store.get(vm.key):
            self.sizes.put(vm, item.mod_revision)

    def _check_rest(self, id: str) -> None:
        """It is resized now: no host may run it, nor be told to."""
        placement = self._placements.get(id)
        if placement is None or not placement.host:
            return
        told, said = self.told(placement.host, id), self.get(Status.at(placement.host, "vm", id))
        if told is None or said is None or told.want != "stopped" or decode(Status, said)[0].phase != "stopped":
            raise Violation(f"{id} is resized while {placement.host} may run it")

    def _create(self, vm: Vm) -> None:
        image = self.images.get(vm.image)
        if vm.id in self.created:
            raise Violation(f"{vm.id} is created again")
        self._take_name(vm)
        if image is None or image.deleted_at:
            raise Violation(f"{vm.id} is to be cloned from {vm.image}, which is deleted")
        self.created.add(vm.id)

    def _take_name(self, vm: Vm) -> None:
        named = self.names.setdefault(vm.name, vm.id)
        if named != vm.id:
            raise Violation(f"{vm.id} is named {vm.name}, as {named} is")

    def _free_name(self, name: str) -> None:
        self.names.pop(name, None)
        self.freed[name] += 1

    def _put_image(self, image: Image) -> None:
        if image.deleted_at and (users := self.users_of(image.id)):
            raise Violation(f"{image.id} is deleted though {users[0]} needs it")
        if image.deleted_at and image.id not in self.unwanted:
            raise Violation(f"{image.id} is deleted though nobody asked for it")
        self.images[image.id] = image

    def _put_placement(self, placement: Placement) -> None:
        is_new, vm, host = self.is_new(placement), self.vms.get(placement.vm), placement.host
        self._placements[placement.vm] = placement
        if vm is None or not is_new:
            return
        where = self.hosts[host]
        if (alive := self._store.get(Alive.at(host))) and decode(Alive, alive.value)[0].degraded:
            raise Violation(f"{vm.id} is placed on {host}, whose daemon is not heard")
        if not where.enabled or not alive:
            raise Violation(f"{vm.id} is placed on {host}, which is {'dead' if where.enabled else 'disabled'}")
        if vm.deleted_at:
            return  # it goes there to be removed
        if not where.matches(vm.host):
            raise Violation(f"{vm.id} is placed on {host}, though it shall run on {vm.host}")
        if mates := self.mates_at(vm, host):
            raise Violation(f"{vm.id} is placed on {host}, where {mates[0]} of its group {vm.spread} is already")

    def _put_manifest(self, manifest: Manifest) -> None:
        self.manifests[manifest.host][manifest.vm] = manifest
        cpus, memory_mib = self.left(manifest.host)
        if memory_mib < 0 or cpus < 0:
            raise Violation(f"{manifest.host} was told of {-memory_mib} MiB or {-cpus:g} cores more than it has")

    def _put_status(self, key: str) -> None:
        """The first word on a VM is said under its manifest: whoever saw neither may have forgotten it by now."""
        _, host, kind, *vm = key.split("/")
        if kind == "vm" and key not in self._statuses and vm[0] not in self.manifests[host]:
            raise Violation(f"{host} begins to speak of {vm[0]}, which no manifest names there")
        self._statuses.add(key)
