"""SSH keys, by the SDK."""

from collections.abc import Iterator, Mapping

from ucloud.client.calls import Calls, Json, given, part
from ucloud.client.vm import merged


class Keys(Calls):
    def create_key(self, name: str, key: str, labels: Mapping[str, str] | None = None, default: bool | None = None) -> Json:
        """key: the line of a .pub file. default: VMs that are made without naming any get it. Raises Invalid (it is no such
        line, or too weak), Conflict (the name is taken, or this key is there under another one)."""
        wishes = given({"labels": dict(labels or {}) or None, "default": default})
        made: Json = part(self._post("/v1/keys", {"name": name, "key": key} | wishes), "key")
        return made

    def keys(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        return self._all("keys", {"name": name, "label": label})

    def key(self, key: str) -> Json:
        return self._thing("key", key)

    def set_key(
        self,
        key: str,
        name: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        default: bool | None = None,
    ) -> Json:
        """The key, changed; as `set_vm`. One key at most is the default: it takes the place of another."""
        changes = given({"name": name, "default": default})
        return self._change("key", key, lambda now: changes | merged("labels", now, labels))

    def delete_key(self, key: str) -> Json:
        """The action, which has ended. Raises Conflict while VMs name it (details: used_by)."""
        return self._delete("key", key)
