"""Keys and user data as they stand in the store, commit by commit, and what must hold of them (used by `sim.invariants`);
whether nothing of them is lost or left over when all has come to rest (part of `sim.convergence`)."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from sim.records import Records
from sim.world import Violation
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import NotNewer, Requirement
from ucloud.model.key import Blob, HostBlob, Key, Project
from ucloud.model.kinds import kind_of
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Vm
from ucloud.store.memory import MemoryStore

if TYPE_CHECKING:
    from sim.cloud import Cloud


class Handouts:
    def __init__(self, store: MemoryStore, records: Records) -> None:
        self._store, self._records = store, records

    def committed(self, puts: Mapping[str, bytes], deletes: Collection[str], requires: Collection[Requirement]) -> None:
        """The store is as after this commit, and so are `records`."""
        compared = {r.prefix: r.revision for r in requires if isinstance(r, NotNewer)}
        for key in deletes:
            match key.split("/"):
                case [("key" | "blob") as kind, id]:
                    if compared.get(keys.used_by(kind, id)) != 0:
                        raise Violation(f"{key} is deleted without regard to who uses it")
                    self._is_free(key, [vm for vm in self._records.vms.values() if id in (*vm.keys, vm.user_data)])
                case ["use", ("key" | "blob"), id, vm] if vm in self._records.vms:
                    if id in ((its := self._records.vms[vm]).user_data, *its.keys):
                        raise Violation(f"{key} is given up, and {vm} has it")
                case ["manifest", host, "blob", sha256]:
                    if keys.manifests(host) not in compared:
                        raise Violation(f"{key} is deleted without regard to what else {host} was told of")
                    self._is_unnamed(host, sha256)
        for key, value in puts.items():
            match key.split("/"):
                case ["vm", id]:
                    self._check_claims(self._records.vms[id])
                    if (item := self._store.get(key)) and item.create_revision == item.mod_revision:
                        self._check_keys(self._records.vms[id])
                case ["manifest", host, vm] if (data := self._records.manifests[host][vm].user_data) and not self._store.get(
                    HostBlob.at(host, "blob", data)
                ):
                    raise Violation(f"{host} is told of {vm} with {data[:8]}, which it has not")
                case ["project", _]:
                    self._check_default(decode(Project, value)[0])

    def _is_free(self, key: str, users: list[Vm]) -> None:
        if users:
            raise Violation(f"{key} is deleted though {users[0].id} needs it")
        if project := self._store.get(Project.at("default")):
            self._check_default(decode(Project, project.value)[0])

    def _is_unnamed(self, host: str, sha256: str) -> None:
        for manifest in self._records.manifests[host].values():
            if manifest.user_data == sha256:
                raise Violation(f"the copy of {sha256[:8]} on {host} is deleted though the manifest of {manifest.vm} names it")

    def _check_keys(self, vm: Vm) -> None:
        """It comes into being: for those that named no key (sim.keyers) the default key counts."""
        item = self._store.get(Project.at("default"))
        default = decode(Project, item.value)[0].default_key if item else ""
        if vm.labels.get("gets") == "default" and vm.keys != ((default,) if default else ()):
            raise Violation(f"{vm.id} is made with the keys {vm.keys}, and the default key is {default or 'none'}")

    def _check_claims(self, vm: Vm) -> None:
        for path in uses(vm):
            _, kind, id, _ = path.split("/")
            if self._store.get(f"{kind}/{id}") is None:
                raise Violation(f"{vm.id} needs {kind}/{id}, which is not there")
            if self._store.get(path) is None:
                raise Violation(f"{vm.id} needs {kind}/{id}, and has not claimed it")

    def _check_default(self, project: Project) -> None:
        if project.default_key and self._store.get(Key.at(project.default_key)) is None:
            raise Violation(f"{project.key} has the default key {project.default_key}, which is not there")


def uses(vm: Vm) -> list[str]:
    return [keys.use("key", id, vm.id) for id in vm.keys] + [keys.use("blob", vm.user_data, vm.id)] * bool(vm.user_data)


def wrong_handouts(cloud: "Cloud") -> Iterator[str]:
    vms, store = cloud.invariants.records.vms, cloud.store
    told = [manifest for manifests in cloud.invariants.records.manifests.values() for manifest in manifests.values()]
    wanted = {path for vm in vms.values() for path in uses(vm)}
    wanted |= {Blob.at(vm.user_data) for vm in vms.values() if vm.user_data}
    wanted |= {HostBlob.at(manifest.host, "blob", manifest.user_data) for manifest in told if manifest.user_data}
    prefixes = ("use/key/", "use/blob/", Blob.prefix, HostBlob.prefix)
    there = {item.key for prefix in prefixes for item in store.list(prefix).items if not is_manifest(item.key)}
    for path in sorted(wanted ^ there):
        yield f"{path} is {'lost' if path in wanted else 'left over'}"
    lines = {item.key: decode(Key, item.value)[0].line for item in store.list(Key.prefix).items}
    owners = [
        decode(Unique, item.value)[0].owner for kind in ("key", "keydata") for item in store.list(f"unique/{kind}/").items
    ]
    if sorted(owners) != sorted([key.removeprefix(Key.prefix) for key in lines] * 2):
        yield f"the keys {sorted(lines)} have their names and fingerprints as {sorted(owners)}"
    for manifest in told:
        vm, item = vms[manifest.vm], store.get(Vm.at(manifest.vm))
        should = (tuple(lines[Key.at(id)] for id in vm.keys), vm.user_data, vm.metadata)
        if item and manifest.revisions.get("vm") == item.mod_revision and should != handed_out(manifest):
            yield f"{manifest.host} was told {handed_out(manifest)} of {vm.id}, and should be told {should}"


def handed_out(manifest: Manifest) -> tuple[tuple[str, ...], str, dict[str, str]]:
    return manifest.keys, manifest.user_data, manifest.metadata


def is_manifest(key: str) -> bool:
    return key.startswith(HostBlob.prefix) and kind_of(key) is not HostBlob
