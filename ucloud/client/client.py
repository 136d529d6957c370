"""One method per thing that the REST API can do. Things are the API's JSON objects, as dictionaries."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote

from ucloud.base.errors import Error, NotFound, Temporary
from ucloud.base.ids import is_id
from ucloud.client.transport import TimedOut, Transport

Json: TypeAlias = dict[str, Any]

CHUNK_BYTES = 256 * 1024
LOG_PATIENCE_S = 4.0  # the log is on one host; if that is away, waiting long is no use
POLL_S = 2.0  # a wait is asked for in pieces, so that progress can be told


class Client:
    """`addresses`: API servers, each unix:/PATH, http://… or https://…; tried in turn."""

    def __init__(self, addresses: Sequence[str], patience_s: float = 30.0) -> None:
        self._transport = Transport(addresses, patience_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

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
    ) -> tuple[Json, Json]:
        """The VM and the action to wait for. What is not given is the server's default.

        host: where it must run: a host, or a label (rack=r1). spread: a group whose VMs never share a host (web), or hosts
        with the same value of a label (web@rack).
        """
        wishes: Json = {"cpus": cpus, "memory_mib": memory_mib, "disk_mib": disk_mib, "labels": dict(labels or {}) or None}
        wishes |= {"host": host, "spread": spread}
        answer = self._post("/v1/vms", {"name": name, "image": image} | _given(wishes))
        return answer["vm"], answer["action"]

    def vms(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        return self._all("vms", {"name": name, "label": label})

    def vm(self, vm: str) -> Json:
        return self._thing("vm", vm)

    def delete_vm(self, vm: str) -> Json:
        return self._delete("vm", vm)

    def start_vm(self, vm: str) -> Json:
        return self._act(vm, "start")

    def stop_vm(self, vm: str, force: bool = False) -> Json:
        """force: the power is cut; the guest is not asked to shut down first."""
        return self._act(vm, "stop", {"force": True} if force else {})

    def reboot_vm(self, vm: str) -> Json:
        return self._act(vm, "reboot")

    def reset_vm(self, vm: str) -> Json:
        return self._act(vm, "reset")

    def vm_log(self, vm: str) -> tuple[bytes, bool]:
        """What the guest wrote to its serial line, and whether older parts of it are gone."""
        response = self._transport.request("GET", f"{_path('vm', vm)}/log", patience_s=LOG_PATIENCE_S)
        return response.content, response.headers.get("X-Log-Truncated") == "true"

    def upload_image(
        self, name: str, path: Path, pool: str | None = None, on_progress: Callable[[str, int, int], None] | None = None
    ) -> tuple[Json, Json]:
        """Announce and upload a file. If that fails nothing is left of the image.

        `on_progress(what, bytes_done, bytes_in_all)`: what is "checksum" or "upload".
        """
        tell = on_progress or (lambda what, done, total: None)
        size = path.stat().st_size
        digest = hashlib.sha256()
        for chunk in _read(path, size, lambda done, total: tell("checksum", done, total)):
            digest.update(chunk)
        answer = self._post("/v1/images", {"name": name, "bytes": size, "sha256": digest.hexdigest()} | _given({"pool": pool}))
        image: Json = answer["image"]
        try:
            self._put_data(image["id"], size, lambda: _read(path, size, lambda done, total: tell("upload", done, total)))
        except BaseException:
            with contextlib.suppress(Error):  # the first error is the one to tell
                self._delete("image", image["id"])
            raise
        return image, answer["action"]

    def _put_data(self, image: str, size: int, content: Callable[[], Iterator[bytes]]) -> None:
        """Again when the connection broke, unless all had arrived and only the answer was lost."""
        for tries_left in (2, 1, 0):
            try:
                self._transport.upload(f"/v1/images/{image}/data", content(), size)
            except Temporary as error:
                if self.image(image)["uploaded_at"]:
                    break
                if not tries_left:
                    raise
                time.sleep(error.retry_s)
            else:
                break

    def images(self, name: str | None = None) -> Iterator[Json]:
        return self._all("images", {"name": name})

    def image(self, image: str) -> Json:
        return self._thing("image", image)

    def delete_image(self, image: str) -> Json:
        return self._delete("image", image)

    def create_host(self, name: str, cpus: int | None = None, memory_mib: int | None = None) -> Json:
        """cpus, memory_mib: at most so much of it is used for VMs."""
        host: Json = self._post("/v1/hosts", {"name": name} | _given({"cpus": cpus, "memory_mib": memory_mib}))["host"]
        return host

    def hosts(self, name: str | None = None) -> Iterator[Json]:
        return self._all("hosts", {"name": name})

    def host(self, host: str) -> Json:
        return self._thing("host", host)

    def set_host(
        self,
        host: str,
        enabled: bool | None = None,
        labels: Mapping[str, str] | None = None,
        cpus: int | None = None,
        memory_mib: int | None = None,
    ) -> Json:
        """The host, changed. labels replace those that it has; cpus, memory_mib: the agreed capacity, 0 for all it has."""
        changes = {"enabled": enabled, "labels": labels, "cpus": cpus, "memory_mib": memory_mib}
        response = self._transport.request("PATCH", _path("host", host), json=_given(changes))
        changed: Json = response.json()["host"]
        return changed

    def create_pool(self, name: str, path: str) -> Json:
        pool: Json = self._post("/v1/pools", {"name": name, "path": path})["pool"]
        return pool

    def pools(self) -> Iterator[Json]:
        return self._all("pools", {})

    def is_ready(self) -> bool:
        try:
            self._transport.request("GET", "/readyz")
        except Error:
            return False
        return True

    def action(self, action: str, wait_s: float = 0) -> Json:
        params = {"wait": f"{wait_s:.1f}"} if wait_s else None
        found: Json = self._transport.request("GET", f"/v1/actions/{quote(action, safe='')}", params=params).json()["action"]
        return found

    def wait(self, action: Json, timeout_s: float, on_progress: Callable[[Json], None] | None = None) -> Json:
        """The action when it has ended, with success or error. Raises TimedOut; the work then goes on."""
        deadline_s = time.monotonic() + timeout_s
        while action["state"] == "running":
            if on_progress:
                on_progress(action)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimedOut(f"after {timeout_s:g} s it is still {action['progress']}", {"action": action["id"]})
            action = self.action(action["id"], min(POLL_S, max(left_s, 0.1)))
        return action

    def _all(self, nouns: str, filters: Mapping[str, str | None]) -> Iterator[Json]:
        """Page by page, as they are asked for."""
        params: dict[str, Any] = {"limit": 500} | _given(filters)
        while True:
            answer = self._transport.request("GET", f"/v1/{nouns}", params=params).json()
            yield from answer[nouns]
            if not answer["next_cursor"]:
                return
            params["cursor"] = answer["next_cursor"]

    def _thing(self, noun: str, reference: str) -> Json:
        found: Json = self._transport.request("GET", _path(noun, reference)).json()[noun]
        return found

    def _delete(self, noun: str, reference: str) -> Json:
        action: Json = self._transport.request("DELETE", self._path_by_id(noun, reference)).json()["action"]
        return action

    def _path_by_id(self, noun: str, reference: str) -> str:
        """A request that is repeated must not meet another thing that got the name meanwhile."""
        return _path(noun, reference if is_id(reference) else self._thing(noun, reference)["id"])

    def _act(self, vm: str, verb: str, body: Json | None = None) -> Json:
        action: Json = self._post(f"{self._path_by_id('vm', vm)}/actions/{verb}", body or {})["action"]
        return action

    def _post(self, path: str, body: Json) -> Json:
        answer: Json = self._transport.request("POST", path, json=body).json()
        return answer


def _path(noun: str, reference: str) -> str:
    if reference in ("", ".", "..") or "/" in reference:  # these mean something else in a URL
        raise NotFound(f"there is no {noun} {reference!r}")
    return f"/v1/{noun}s/{quote(reference, safe='')}"


def _given(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _read(path: Path, size: int, tell: Callable[[int, int], None]) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            tell(done, size)
