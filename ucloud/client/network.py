"""Networks, by the SDK."""

from collections.abc import Iterator, Mapping

from ucloud.client.calls import Calls, Json, given, part


class Networks(Calls):
    def create_network(
        self,
        name: str,
        public: bool | None = None,
        ipv6: str | None = None,
        ipv4: str | None = None,
        slaac: bool | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Json:
        """public: its VMs are reached from outside, by IPv6. ipv6: a prefix of 64 bits; by default a free one. ipv4: a private
        range, of a private network. slaac: guests without DHCPv6 make their address themselves. Raises Invalid (a range makes
        no sense or overlaps another's), Conflict (the name is taken), NoCapacity (no prefix is left)."""
        wishes = given({"public": public, "ipv6": ipv6, "ipv4": ipv4, "slaac": slaac, "labels": dict(labels or {}) or None})
        network: Json = part(self._post("/v1/networks", {"name": name} | wishes), "network")
        return network

    def networks(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        return self._all("networks", {"name": name, "label": label})

    def network(self, network: str) -> Json:
        """With its members: the VMs on it."""
        return self._thing("network", network)

    def delete_network(self, network: str) -> Json:
        """The action, which has ended. Raises Conflict while VMs are on it (details: used_by)."""
        return self._delete("network", network)
