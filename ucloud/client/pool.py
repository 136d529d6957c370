"""Pools, by the SDK."""

from collections.abc import Iterator

from ucloud.client.calls import Calls, Json, part


class Pools(Calls):
    def create_pool(self, name: str, path: str) -> Json:
        """path: the directory, the same on each host."""
        pool: Json = part(self._post("/v1/pools", {"name": name, "path": path}), "pool")
        return pool

    def pools(self, name: str | None = None) -> Iterator[Json]:
        return self._all("pools", {"name": name})

    def pool(self, pool: str) -> Json:
        return self._thing("pool", pool)
