"""Declaring hosts dead, commit by commit, and what must hold of it: used by `sim.invariants`. Hosts are looked at as they
really are, whatever the records say of them."""

from collections.abc import Callable, Collection, Mapping

from sim.records import Records
from sim.storage import Storage
from sim.world import Violation
from ucloud.model import keys
from ucloud.model.host import Alive, Failover, Fence, Host, Reconciled
from ucloud.model.kinds import kind_of
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Placement, Status
from ucloud.store.memory import MemoryStore


class Fences:
    """guests_on: VMs that have a guest on a host. outlives: whether the guest of a VM lives on there without a lease, though
    somebody is there to kill it. has_renewed: whether a host has renewed its lease just now."""

    def __init__(self, store: MemoryStore, records: Records, storage: Storage) -> None:
        self.guests_on: Callable[[str], list[str]] = lambda host: []
        self.outlives: Callable[[str, str], bool] = lambda host, vm: False
        self.has_renewed: Callable[[str], bool] = lambda host: False
        self._store, self._records, self._storage = store, records, storage
        self._there: dict[str, tuple[Fence, int]] = {}  # host → its fence and the revision of that
        self._numbers: dict[str, int] = {}

    def committed(self, puts: Mapping[str, bytes], deletes: Collection[str]) -> None:
        """The store is as after this commit, `records` as before it."""
        for key in deletes:
            if key.startswith(Fence.prefix) and key in {fence.key for fence, _ in self._there.values()}:
                self._lifted(key.removeprefix(Fence.prefix), is_forgotten=any(key.startswith(Host.prefix) for key in deletes))
        for key, value in puts.items():
            if key.startswith(Fence.prefix):
                self._fenced(decode(Fence, value)[0])
            elif key.startswith(Placement.prefix):
                self._placed(decode(Placement, value)[0])
            elif kind_of(key) is Status and (fence := self._there.get(host := key.split("/")[1])):
                raise Violation(f"{host} commits {key} under fence {fence[0].number}")
            elif kind_of(key) is Reconciled and (guests := self.guests_on(host := key.split("/")[1])):
                raise Violation(f"{host} says that nothing runs there, and has a guest of {guests[0]}")

    def _fenced(self, fence: Fence) -> None:
        before = self._there.get(fence.host)
        if before is None:
            self._declared(fence)
        elif before[0].number != fence.number or not before[0].proofs.keys() <= fence.proofs.keys():
            raise Violation(f"{fence.key} was {before[0]}, and becomes {fence}")
        item = self._store.get(fence.key)
        assert item
        self._there[fence.host] = fence, item.mod_revision

    def _declared(self, fence: Fence) -> None:
        if self._store.get(Alive.at(fence.host)):
            raise Violation(f"{fence.host} is declared dead, and is alive")
        if self.has_renewed(fence.host):
            raise Violation(f"{fence.host} is declared dead, and has renewed its lease just now")
        if fence.number <= self._numbers.get(fence.host, 0):
            raise Violation(f"{fence.host} gets fence {fence.number} after fence {self._numbers[fence.host]}")
        if (item := self._store.get(Failover.at("failover"))) and not decode(Failover, item.value)[0].armed:
            raise Violation(f"{fence.host} is declared dead, and the cluster is disarmed")
        for vm in self.guests_on(fence.host):
            if self.outlives(fence.host, vm):
                raise Violation(f"{fence.host} is declared dead, and the guest of {vm} has outlived its lease there")
        self._numbers[fence.host] = fence.number

    def _lifted(self, host: str, is_forgotten: bool) -> None:
        fence, revision = self._there.pop(host)
        if is_forgotten:
            return
        if guests := self.guests_on(host):
            raise Violation(f"fence {fence.number} of {host} is lifted, and {guests[0]} runs there since before")
        for item in self._store.list(keys.manifests(host)).items:
            if kind_of(item.key) is Manifest and item.mod_revision < revision:
                raise Violation(f"fence {fence.number} of {host} is lifted, and {item.key} is older")

    def _placed(self, new: Placement) -> None:
        """Whoever was its owner until now, and is not any more, must be unable to write."""
        before, vm = self._records.placement(new.vm), self._records.vms.get(new.vm)
        if before and new.host and new.host != before.host and new.epoch <= before.epoch:
            raise Violation(f"{new.vm} goes to {new.host} under the epoch that it had before")
        if before is None or vm is None or before.host in ("", new.host):
            return
        item = self._store.get(Status.at(before.host, "vm", new.vm))
        if item is None:
            return  # it was never begun there
        status, where = decode(Status, item.value)[0], f"{new.vm} leaves {before.host}"
        if new.lost:
            return
        if not self._storage.pools[vm.pool].shared:
            raise Violation(f"{where}, which alone has its disk")
        if not vm.deleted_at and "never" in (vm.ha, status.ha):
            raise Violation(f"{where}, and was to wait for it")
        if self._storage.pools[vm.pool].fence != "same-kernel" and self._storage.may_write(before.host, new.vm):
            raise Violation(f"{where}, from where its disk may still be written to")
        if self.outlives(before.host, new.vm):
            raise Violation(f"{where}, where its guest has outlived the lease")
