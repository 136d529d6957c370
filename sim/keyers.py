"""What people of the simulated cloud do with keys and user data: add and delete keys, make one the default, give them to VMs,
tell VMs other things. Part of `sim.client`."""

import base64
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.world import World

if TYPE_CHECKING:
    from sim.api import Answer
    from sim.client import Client

KEYED, SHARE = 0.3, 0.3  # of histories; of what people do there
ED25519 = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
LINES = [f"ssh-ed25519 {base64.b64encode(ED25519 + bytes([number]) * 32).decode()} me" for number in range(4)]
MAX_KEYS = 3
TEXTS = ("", "#!/bin/sh\necho a\n", "#!/bin/sh\necho b\n")  # so few that VMs share them, and come back to what they had
MISUNDERSTANDING = 0.4  # gives a VM a key that somebody else deletes at the same moment
CHANGE_OF_MIND, CHANGES_S = 0.4, (0.001, 0.01, 0.1, 1.0)


class Keyers:
    """keys: ids of all that were added and are not gone as far as is known."""

    def __init__(self, client: "Client", world: World) -> None:
        self.keys: list[str] = []
        self._client, self._world = client, world
        self._share = SHARE if random.Random(f"{world.seed} keys").random() < KEYED else 0.0

    def act(self) -> bool:
        """False where somebody does something else."""
        chance = self._world.chance
        if not self._share or chance.random() >= self._share:
            return False
        kind, vms = chance.random(), self._client.vms
        if len(self.keys) < MAX_KEYS and (not self.keys or kind < 0.2):
            body = {"name": self._name(), "key": chance.choice(LINES), "default": chance.random() < 0.3}
            self._client.send("POST", "/v1/keys", body, "key", self._know)
        elif kind < 0.35 and self.keys:
            self._delete(chance.choice(self.keys))
        elif kind < 0.45 and self.keys:
            change: dict[str, Any] = {"name": self._name()} if chance.random() < 0.3 else {"default": chance.random() < 0.7}
            self._client.send("PATCH", f"/v1/keys/{chance.choice(self.keys)}", change)
        elif vms:
            self._change(chance.choice(vms))
        return True

    def of_new_vm(self) -> dict[str, Any]:
        """The default key, none, or some; user data or none."""
        chance = self._world.chance
        if not self._share:
            return {}
        keys = {"labels": {"gets": "default"}} if chance.random() < 0.4 else {"keys": self._some()}
        return {**keys, "user_data": chance.choice(TEXTS)}

    def _name(self) -> str:
        return f"key-{self._world.chance.randrange(4)}"

    def _some(self) -> list[str]:
        chance = self._world.chance
        return chance.sample(self.keys, min(len(self.keys), chance.choice((0, 1, 1, 2))))

    def _know(self, answer: "Answer") -> None:
        if answer.status < 300 and answer.body["key"]["id"] not in self.keys:
            self.keys.append(answer.body["key"]["id"])

    def _delete(self, id: str) -> None:
        def forget(answer: "Answer") -> None:
            if answer.status != 409 and id in self.keys:
                self.keys.remove(id)

        self._client.send("DELETE", f"/v1/keys/{id}", then=forget)

    def _change(self, vm: str) -> None:
        """Often back again soon, or to something else: before any host was told, or while its host is at it."""
        chance, path = self._world.chance, f"/v1/vms/{vm}"
        kind = chance.random()
        if kind < 0.3:
            keys = self._some()
            self._client.send("PATCH", path, {"keys": keys})
            if keys and self._world.happens(MISUNDERSTANDING):
                self._delete(keys[0])
        elif kind < 0.4:
            self._client.send("PATCH", path, {"metadata": {"role": chance.choice(("a", "b"))}})
        else:
            self._client.send("PATCH", path, {"user_data": chance.choice(TEXTS)})
            if self._world.happens(CHANGE_OF_MIND):
                again = partial(self._client.send, "PATCH", path, {"user_data": chance.choice(TEXTS)})
                self._world.after(chance.choice(CHANGES_S), again)
