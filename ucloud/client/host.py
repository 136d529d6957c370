"""Hosts, by the SDK."""

from collections.abc import Iterator, Mapping

from ucloud.client.calls import Calls, Json, given, part
from ucloud.client.vm import merged


class Hosts(Calls):
    def create_host(self, name: str, cpus: int | None = None, memory_mib: int | None = None) -> Json:
        """cpus, memory_mib: at most so much of it is used for VMs."""
        host: Json = part(self._post("/v1/hosts", {"name": name} | given({"cpus": cpus, "memory_mib": memory_mib})), "host")
        return host

    def add_host(self, name: str) -> Json:
        """Leave for one machine to join as `name` within an hour: token, url (of the API, perhaps empty), expires."""
        return self._post("/v1/join-tokens", {"name": name}).json()  # type: ignore[no-any-return]

    def join_host(self, token: str, address: str, attempt: str | None = None) -> Json:
        """For the new machine, which has this address on the hosts' own network: its id, its name, and `settings`. A token is
        worth this once; whoever names the same attempt (an Idempotency-Key) gets the same answer again."""
        body = {"token": token, "address": address}
        answer = self._transport.request("POST", "/v1/join", json=body, headers=given({"Idempotency-Key": attempt}))
        return answer.json()  # type: ignore[no-any-return]

    def remove_host(self, host: str, lost: bool = False) -> str:
        """Answers its id; it is gone when `host` raises NotFound. lost: your word that its machine never comes back."""
        path = self._path_by_id("host", host)
        self._transport.request("DELETE", path, params={"lost": "true"} if lost else None)
        return path.rpartition("/")[2]

    def hosts(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        return self._all("hosts", {"name": name, "label": label})

    def host(self, host: str) -> Json:
        return self._thing("host", host)

    def fence_host(self, host: str) -> Json:
        """Your word that its machine is switched off: VMs with disks in shared pools are restarted elsewhere."""
        fenced: Json = part(self._post(f"/v1/hosts/{host}/actions/fence", {"confirm_off": True}), "host")
        return fenced

    def set_host(
        self,
        host: str,
        enabled: bool | None = None,
        labels: Mapping[str, str | None] | None = None,
        cpus: int | None = None,
        memory_mib: int | None = None,
    ) -> Json:
        """The host, changed. labels are added to those that it has; one whose value is None is removed. cpus, memory_mib: the
        agreed capacity, 0 for all it has."""
        changes = given({"enabled": enabled, "cpus": cpus, "memory_mib": memory_mib})
        return self._change("host", host, lambda now: changes | merged("labels", now, labels))
