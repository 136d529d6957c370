"""What the scheduler looks at in one pass: the records, and what is made of them once for all VMs.

Made by `ucloud.scheduler.decide` for each pass, and handed to everything that it asks.
"""

import functools

from ucloud.base.clock import timestamp
from ucloud.model.facts import Facts
from ucloud.model.host import Fence, Host
from ucloud.model.record import Fact
from ucloud.scheduler.handouts import Handouts
from ucloud.scheduler.hosts import Hosts, Policy
from ucloud.scheduler.ports import Ports


class Look:
    def __init__(self, facts: Facts, now_s: float, policy: Policy) -> None:
        self.facts, self._now_s, self._policy = facts, now_s, policy
        self.ports, self.handouts = Ports(facts), Handouts(facts)
        fences = facts.all(Fence).values()
        self.fenced = {fence.record.host: fence for fence in fences if fence.record.phase == "fenced"}  # by the host's id

    @functools.cached_property
    def hosts(self) -> Hosts:
        """Dear: only for a pass that needs it."""
        return Hosts(self.facts, self._policy)

    @property
    def now(self) -> str:
        return timestamp(self._now_s)

    def host(self, id: str) -> Fact[Host] | None:
        return self.facts.get(Host, Host.at(id))

    def name(self, id: str) -> str:
        """Of a host, as people know it."""
        host = self.host(id)
        return host.record.name if host else id
