"""Pools, by the SDK."""

from collections.abc import Iterator

from ucloud.client.calls import Calls, Json, given, part


class Pools(Calls):
    def create_pool(self, name: str, path: str, shared: bool = False, fence: str = "none") -> Json:
        """path: the directory, the same on each host. shared: all hosts have the same files there. fence: what cuts a dead host
        off it: same-kernel, command, none."""
        body = {"name": name, "path": path, "shared": shared, "fence": fence}
        pool: Json = part(self._post("/v1/pools", body), "pool")
        return pool

    def set_pool(self, pool: str, *, shared: bool | None = None, fence: str | None = None) -> Json:
        """What is None stays."""
        changes = given({"shared": shared, "fence": fence})
        return self._change("pool", pool, lambda _: changes)

    def pools(self, name: str | None = None) -> Iterator[Json]:
        return self._all("pools", {"name": name})

    def pool(self, pool: str) -> Json:
        return self._thing("pool", pool)
