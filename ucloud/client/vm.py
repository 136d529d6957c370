"""VMs, by the SDK."""

import base64
from collections.abc import Iterator, Mapping, Sequence

from ucloud.client.calls import Calls, Json, given, part

LOG_PATIENCE_S = 4.0  # the log is on one host; if that is away, waiting long is no use


class Vms(Calls):
    def create_vm(
        self,
        name: str,
        image: str,
        cpus: int | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        labels: Mapping[str, str] | None = None,
        host: str | None = None,
        spread: str | None = None,
        pool: str | None = None,
        networks: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        user_data: bytes | None = None,
        metadata: Mapping[str, str] | None = None,
        ha: str | None = None,
        priority: str | None = None,
    ) -> tuple[Json, Json]:
        """The VM and the action to wait for. What is not given is the server's default.

        host: where it must run: a host, or a label (rack=r1). spread: a group whose VMs never share a host (web), or hosts
        with the same value of a label (web@rack). pool: where its disk lies; as yet only that of the image. networks: by
        default the project's network `default`; it may have none. keys: who may log in; by default the default key, if there
        is one. user_data: what cloud-init gets, to the byte. metadata: what else its guest shall know. ha: when its host dies,
        `restart` it elsewhere, or `never`. priority: low, normal, high. Raises Invalid, Conflict (the name is taken),
        NoCapacity.
        """
        wishes: Json = {"cpus": cpus, "memory_mib": memory_mib, "disk_mib": disk_mib, "labels": dict(labels or {}) or None}
        wishes |= {"host": host, "spread": spread, "pool": pool, "networks": None if networks is None else list(networks)}
        wishes |= {"keys": None if keys is None else list(keys), "metadata": dict(metadata or {}) or None, **packed(user_data)}
        wishes |= {"ha": ha, "priority": priority}
        answer = self._post("/v1/vms", {"name": name, "image": image} | given(wishes))
        return part(answer, "vm"), part(answer, "action")

    def vms(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        """Oldest first, of a moment ago. label: KEY or KEY=VALUE."""
        return self._all("vms", {"name": name, "label": label})

    def vm(self, vm: str) -> Json:
        """By id or name, never older than an answered change. Raises NotFound."""
        return self._thing("vm", vm)

    def set_vm(
        self,
        vm: str,
        name: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        delete_protection: bool | None = None,
        metadata: Mapping[str, str | None] | None = None,
        add_keys: Sequence[str] = (),
        remove_keys: Sequence[str] = (),
        user_data: bytes | None = None,
        ha: str | None = None,
        priority: str | None = None,
    ) -> Json:
        """The VM, changed. labels and metadata are added to those that it has; one whose value is None is removed. user_data:
        b"" for none. Nobody else's change gets lost. Raises NotFound, Invalid, Conflict (the name is taken)."""
        added, removed = ([self._thing("key", key)["name"] for key in keys] for keys in (add_keys, remove_keys))
        changes = given({"name": name, "delete_protection": delete_protection, **packed(user_data)})
        changes |= given({"ha": ha, "priority": priority})

        def change(now: Json) -> Json:
            wanted = changes | merged("labels", now, labels) | merged("metadata", now, metadata)
            if added or removed:
                wanted["keys"] = [key for key in dict.fromkeys([*now["keys"], *added]) if key not in removed]
            return wanted

        return self._change("vm", vm, change)

    def vm_user_data(self, vm: str) -> bytes:
        """Raises NotFound where there is none."""
        return self._get("vm", vm, "/user-data").content

    def delete_vm(self, vm: str) -> Json:
        """The action to wait for. Raises NotFound; Conflict if it is protected."""
        return self._delete("vm", vm)

    def start_vm(self, vm: str) -> Json:
        return self._act(vm, "start")

    def stop_vm(self, vm: str, force: bool = False) -> Json:
        """force: the power is cut; the guest is not asked to shut down first."""
        return self._act(vm, "stop", {"force": True} if force else {})

    def reboot_vm(self, vm: str) -> Json:
        return self._act(vm, "reboot")

    def reset_vm(self, vm: str) -> Json:
        """The power is cut, and comes back."""
        return self._act(vm, "reset")

    def resize_vm(self, vm: str, cpus: int | None = None, memory_mib: int | None = None, disk_mib: int | None = None) -> Json:
        """The action, which ends when its host has room for it and has confirmed it. What is not given stays; a disk only
        grows. Raises Conflict unless it is stopped or waits for a host, NoCapacity if no host could ever hold it."""
        return self._act(vm, "resize", given({"cpus": cpus, "memory_mib": memory_mib, "disk_mib": disk_mib}))

    def attach_vm(self, vm: str, network: str, allow: Sequence[str] = ()) -> Json:
        """The action, which ends when its host has confirmed it: the guest has one more interface. allow: what it may do there
        that others may not, ra or dhcp or both. Raises Conflict (it is there already, or leaves it just now), NoCapacity."""
        return self._act(vm, "attach", {"network": network} | ({"allow": list(allow)} if allow else {}))

    def detach_vm(self, vm: str, network: str) -> Json:
        """The action, which ends when its host has confirmed it. Raises Conflict if it is not there."""
        return self._act(vm, "detach", {"network": network})

    def vm_log(self, vm: str) -> tuple[bytes, bool]:
        """What the guest wrote to its serial line, and whether older parts of it are gone."""
        response = self._get("vm", vm, "/log", LOG_PATIENCE_S)
        return response.content, response.headers.get("X-Log-Truncated") == "true"

    def explain_vm(self, vm: str) -> Json:
        """Why it is as it is: what is wanted, where it is placed, what its host was told and says, what is waited for, the last
        events, and what one can do."""
        explanation: Json = self._get("vm", vm, "/explain").json()
        return explanation

    def _act(self, vm: str, verb: str, body: Json | None = None) -> Json:
        action: Json = part(self._post(f"{self._path_by_id('vm', vm)}/actions/{verb}", body or {}), "action")
        return action


def merged(field: str, now: Json, changes: Mapping[str, str | None] | None) -> Json:
    """A field of pairs for a PATCH of what is so now; nothing where nothing is to be changed."""
    return {} if changes is None else {field: given({**now[field], **changes})}


def packed(user_data: bytes | None) -> Json:
    """As requests carry it: it need not be text."""
    return {} if user_data is None else {"user_data_base64": base64.b64encode(user_data).decode()}
