"""What people of the simulated cloud do with networks: make and delete them, attach and detach VMs. Part of `sim.client`."""

from functools import partial
from typing import TYPE_CHECKING, Any

from sim.invariants import Invariants
from sim.world import World

if TYPE_CHECKING:
    from sim.api import Answer
    from sim.client import Client

NETWORKED, SHARE = 0.6, 0.2  # of histories; of what people do there
MAX_NETWORKS = 3
RANGES = ("", "10.0.0.0/29", "10.0.1.0/29", "10.0.1.0/28")  # so small that two VMs meet, and two networks
MISUNDERSTANDING = 0.4  # attaches to a network that somebody else deletes at the same moment
CHANGE_OF_MIND, CHANGES_S = 0.4, (0.001, 0.01, 0.1, 1.0)


class Networkers:
    """networks: ids of all that were made and are not gone as far as is known."""

    def __init__(self, client: "Client", world: World, invariants: Invariants) -> None:
        self.networks: list[str] = []
        self._client, self._world, self._invariants = client, world, invariants
        self._share = SHARE if world.chance.random() < NETWORKED else 0.0

    def act(self) -> bool:
        """False where somebody does something else."""
        chance = self._world.chance
        if chance.random() >= self._share:
            return False
        kind, vms = chance.random(), self._client.vms
        if len(self.networks) < MAX_NETWORKS and (not self.networks or kind < 0.15):
            self._create()
        elif kind < 0.3 and self.networks:
            self._delete(chance.choice(self.networks))
        elif vms and self.networks:
            self._change(chance.choice(vms), chance.choice(self.networks))
        return True

    def of_new_vm(self) -> dict[str, Any]:
        """None, the default one, or some."""
        chance = self._world.chance
        if not self._share:
            return {"networks": []}
        wanted = chance.sample(self.networks, min(len(self.networks), chance.choice((0, 1, 1, 2))))
        return {} if chance.random() < 0.2 else {"networks": wanted}

    def _create(self) -> None:
        chance = self._world.chance
        ipv4 = chance.choice(RANGES)
        body = {"name": f"net-{chance.randrange(4)}", "public": not ipv4 and chance.random() < 0.5}
        self._client.send("POST", "/v1/networks", body | ({"ipv4": ipv4} if ipv4 else {}), "network", self._know)

    def _know(self, answer: "Answer") -> None:
        if answer.status < 300 and answer.body["network"]["id"] not in self.networks:
            self.networks.append(answer.body["network"]["id"])

    def _delete(self, id: str) -> None:
        def forget(answer: "Answer") -> None:
            if answer.status != 409 and id in self.networks:
                self.networks.remove(id)

        self._client.send("DELETE", f"/v1/networks/{id}", then=forget)

    def _change(self, vm: str, network: str) -> None:
        """Mostly what makes sense, and often back again soon: before any host was told, or while its host is at it."""
        chance, record = self._world.chance, self._invariants.records.vms.get(vm)
        its = [port.network for port in record.ports] if record else []
        first, second = ("detach", "attach") if its and chance.random() < 0.5 else ("attach", "detach")
        network = chance.choice(its) if first == "detach" else network
        self._client.act_on(vm, first, {"network": network})
        if first == "attach" and self._world.happens(MISUNDERSTANDING):
            self._delete(network)
        if self._world.happens(CHANGE_OF_MIND):
            again = partial(self._client.act_on, vm, second, {"network": network})
            self._world.after(chance.choice(CHANGES_S), again)
