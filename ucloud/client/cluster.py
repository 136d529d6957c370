"""The cloud as a whole, by the SDK."""

from ucloud.client.calls import Calls, Json, part


class Cluster(Calls):
    def cluster(self) -> Json:
        """How the cloud is: its store, who leads, how many of what there are, what waits; and `findings`: what needs somebody,
        with what to do about each. Takes some seconds when a part does not answer."""
        found: Json = self._transport.request("GET", "/v1/cluster").json()
        return found

    def arm(self, armed: bool = True, reason: str = "") -> Json:
        """Whether silent hosts are declared dead, and their VMs restarted elsewhere."""
        answer = self._transport.request("PATCH", "/v1/cluster", json={"armed": armed, "reason": reason})
        failover: Json = part(answer, "failover")
        return failover
