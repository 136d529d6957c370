"""What operators do about hosts that die, or seem to: part of `sim.client`. They disarm the cluster, arm it again, and say of
machines that are switched off that they are."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sim.world import World
from ucloud.model.host import Failover
from ucloud.model.record import decode
from ucloud.store.memory import MemoryStore

if TYPE_CHECKING:
    from sim.api import Answer
    from sim.client import Client

ACTS, DISARMS = 0.08, 0.3
ARMS_S = (1.0, 5.0, 15.0)
LOOK_S = 5.0


class Operators:
    """is_off: whether the machine of a host has no power."""

    def __init__(self, client: "Client", world: World, hosts: list[str]) -> None:
        self.is_off: Callable[[str], bool] = lambda host: False
        self._client, self._world, self._hosts = client, world, hosts
        self._asked = False  # for the cluster to be armed, or not, and there is no answer yet

    def act(self) -> bool:
        chance = self._world.chance
        if chance.random() >= ACTS:
            return False
        if chance.random() < DISARMS:
            self._set_armed(False)
        elif off := [host for host in self._hosts if self.is_off(host)]:
            self._confirm_off(chance.choice(off))
        return True

    def arm_in_the_end(self, store: MemoryStore) -> None:
        """A request of before may disarm it once more."""
        item = store.get(Failover.at("failover"))
        if item and not decode(Failover, item.value)[0].armed:
            self._set_armed(True)
        self._world.after(LOOK_S, partial(self.arm_in_the_end, store))

    def _set_armed(self, armed: bool) -> None:
        def answered(_: "Answer") -> None:
            self._asked = False
            if not armed:
                self._world.after(self._world.chance.choice(ARMS_S), partial(self._set_armed, True))

        if not self._asked:
            self._asked = True
            self._client.send("PATCH", "/v1/cluster", {"armed": armed}, then=answered)

    def _confirm_off(self, host: str) -> None:
        """Said once, by somebody who stands before it: not again when nobody answers, as it may have power by then."""
        self._world.say("operator", f"confirms that {host} is off")
        self._client.say_once("POST", f"/v1/hosts/{host}/actions/fence", {"confirm_off": True})
