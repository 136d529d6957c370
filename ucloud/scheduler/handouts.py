"""What guests are told of by their owners: the lines of SSH keys, and user data. Hosts get the lines in manifests, and of the
user data that those name a copy each, in the very transaction that tells them of it.

Pure; used by `ucloud.scheduler.decide` for one pass. A key never changes, nor does what is named by its SHA-256, and while a VM
uses them they are not deleted: so nothing here rests on their records, but for the copies, which are the scheduler's own.
"""

from collections.abc import Iterator, Sequence

from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Decision, NotNewer, Requirement, absent, empty, unchanged
from ucloud.model.facts import Facts
from ucloud.model.key import Blob, HostBlob, Key
from ucloud.model.kinds import kind_of
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Vm

USES = "use/blob/"


class Handouts:
    """told: what the VM's host was told last. Where a record cannot be read it stays with that."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def lack(self, vm: Vm, told: Manifest | None = None) -> str:
        """Why a host cannot be told of it, in words; "" if it can."""
        missing = "" if told else self._missing(vm)
        if not missing:
            return ""
        return f"the record {missing} cannot be read" if missing in self._facts.bad else f"there is no {missing}"

    def is_behind(self, vm: Fact[Vm]) -> bool:
        """Whether what it lacks may only be on its way: it was written no later than the VM, but all is seen one by one."""
        seen = min(self._facts.seen(Key.prefix), self._facts.seen(Blob.prefix))
        return self._missing(vm.record) not in self._facts.bad and seen < vm.revision

    def _missing(self, vm: Vm) -> str:
        wanted = [Key.at(id) for id in vm.keys] + [Blob.at(vm.user_data)] * bool(vm.user_data)
        return "" if vm.deleted_at else next((key for key in wanted if not self._is_there(key)), "")

    def keys(self, vm: Vm, told: Manifest | None) -> tuple[str, ...]:
        """Lines for authorized_keys, in the VM's order. Of a deleted VM nothing needs to be told."""
        if vm.deleted_at:
            return ()
        facts = [self._facts.get(Key, Key.at(id)) for id in vm.keys]
        lines = tuple(fact.record.line for fact in facts if fact)
        return lines if len(lines) == len(facts) or told is None else told.keys

    def user_data(self, vm: Vm, host: str, told: Manifest | None) -> str:
        """Its SHA-256."""
        if vm.deleted_at:
            return ""
        return vm.user_data if told is None or self._is_at_hand(vm.user_data, host) else told.user_data

    def revisions(self, vm: Vm) -> dict[str, int]:
        """The keys that cannot be read: revision 0, so that its host is told again when they can be."""
        return {} if vm.deleted_at else {id: 0 for id in vm.keys if not self._is_there(Key.at(id))}

    def are_told(self, vm: Vm, told: Manifest) -> bool:
        """Whether there is nothing new to tell of them; the VM is the one that its host was told of."""
        if vm.deleted_at:
            return True
        if any(self._is_there(Key.at(id)) for id in vm.keys if id in told.revisions):
            return False
        has_copy = told.user_data == vm.user_data and (not vm.user_data or self._is_known(copy_key(told.host, vm.user_data)))
        return has_copy or not self._is_at_hand(vm.user_data, told.host)

    def copies(self, manifest: Manifest) -> Iterator[tuple[HostBlob | None, Requirement]]:
        """Of the user data that the manifest names: what to write, if anything, and what that rests on. One that cannot be read
        is left as it is."""
        if not manifest.user_data:
            return
        key = copy_key(manifest.host, manifest.user_data)
        copy, blob = self._facts.get(HostBlob, key), self._facts.get(Blob, Blob.at(manifest.user_data))
        if copy:
            yield None, unchanged(copy)
        elif blob and key not in self._facts.bad:
            yield HostBlob(host=manifest.host, sha256=manifest.user_data, data=blob.record.data), absent(key)

    def clear(self, decisions: Sequence[Decision]) -> Iterator[Decision]:
        """What no VM uses any more. decisions: all others of this pass."""
        if copies := self._facts.all(HostBlob):
            told = [fact.record for fact in self._facts.all(Manifest).values()]
            told += [record for decision in decisions for record in decision.puts if isinstance(record, Manifest)]
            named = {copy_key(manifest.host, manifest.user_data) for manifest in told}
            doubtful = {key.split("/")[1] for key in self._facts.bad if kind_of(key) is Manifest}
            for copy in copies.values():
                if copy.key not in named and copy.record.host not in doubtful:
                    manifests = keys.manifests(copy.record.host)
                    yield _cleared(copy, "no VM on this host", NotNewer(manifests, self._facts.seen(manifests)))
        if blobs := self._facts.all(Blob):
            used = {key.split("/")[2] for key in (*self._facts.all(Unique), *self._facts.bad) if key.startswith(USES)}
            for blob in blobs.values():
                is_behind = self._facts.seen(USES) < blob.revision  # its use is written with it
                if blob.record.sha256 not in used and not is_behind:
                    yield _cleared(blob, "no VM", empty(keys.used_by("blob", blob.record.sha256)))

    def _is_there(self, key: str) -> bool:
        return self._facts.get(Key, key) is not None or self._facts.get(Blob, key) is not None

    def _is_known(self, key: str) -> bool:
        """Readable or not."""
        return self._facts.get(HostBlob, key) is not None or key in self._facts.bad

    def _is_at_hand(self, user_data: str, host: str) -> bool:
        """A copy is there already, or can be made. That none is wanted can always be told."""
        copy = self._facts.get(HostBlob, copy_key(host, user_data))
        return not user_data or copy is not None or self._is_there(Blob.at(user_data))


def copy_key(host: str, user_data: str) -> str:
    return HostBlob.at(host, "blob", user_data)


def _cleared(fact: Fact[HostBlob] | Fact[Blob], nobody: str, requirement: Requirement) -> Decision:
    reason = f"{nobody} has this user data any more"
    return Decision(verb="clear", key=fact.key, reason=reason, deletes=(fact.key,), requires=(unchanged(fact), requirement))
