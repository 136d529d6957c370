"""The people of the simulated cloud: they ask its API, whichever process answers, and ask again until they know.

A request without an answer is sent again, with the same Idempotency-Key, to a process by chance; the first one may yet be
carried out. Some requests are sent again though they were answered.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sim.api import Answer, ApiNode
from sim.invariants import Invariants
from sim.keyers import Keyers
from sim.networkers import Networkers
from sim.operators import Operators
from sim.promises import DEFERRED
from sim.world import Violation, World

DISK_MIB = 10
GIVES_UP_S, PATIENCE_S = 6.0, (0.5, 3.0, 5.0)
LOST, REPEATED, OUTLIVES = 0.03, 0.05, 0.2
TWICE = 0.1  # of the impatient
LATENCIES_S = (0.001, 0.01, 0.1, 2.0)
PURGES = 0.05  # so that hosts fill up again and again
MEMORY_MIB = (128, 256, 384, 512)
SECOND_THOUGHTS, SECOND_S = 0.5, (0.0, 0.01, 0.05)  # creates of VMs that are resized before they have a host, or just after
REGRETS, REGRETS_S = 0.3, (0.02, 0.1, 0.5, 2.0)  # creates that are undone soon
VERBS = ("stop", "stop", "start", "start", "start", "reboot", "reset", "resize")
REFITS, REFITS_S = 0.8, (0.01, 0.3, 2.0)  # commands, of those who keep their VMs, that stop one, resize and start it
REFIT = ("stop", "resize", "resize", "resize", "start")  # who tries what fits tries more than once
TOO_LARGE, SMALLER_DISK = 0.03, 0.03
POOLS = (("default",), ("default", "default", "local"), ("server",), ("default", "server", "unfenced", "local"))  # of a history
GROUPS = ("", "", "", "web", "db@rack")
DATA = b"\0" * 510 + b"\x55\xaa"  # what a PC can boot
BROKEN = b"no disk" * 100
MAX_IMAGES = 2
CURATES = (0.15, 0.15, 0.15, 0.5)  # how much people do with images, of a history
RACES = 0.5  # deletions of an image of which somebody makes a VM just now


@dataclass
class Request:
    """name: its Idempotency-Key, for those that have one. makes: the noun that it makes."""

    name: str
    method: str
    path: str
    body: Any
    makes: str
    then: Callable[[Answer], None]
    attempts: int = 0
    answer: Answer | None = None


class Client:
    """vms, images: ids of all that were made and are not gone as far as is known."""

    def __init__(
        self, world: World, apis: Sequence[ApiNode], invariants: Invariants, hosts: Sequence[str], max_vms: int
    ) -> None:
        self.vms: list[str] = []
        self.images: list[str] = []
        self.actions: dict[str, str] = {}  # VM → the last action that was promised
        self.resizes: dict[str, str] = {}  # VM → the last resize that was promised
        self.pending: dict[int, Request] = {}
        self._world, self._apis, self._invariants = world, apis, invariants
        self._hosts = hosts
        self.operators = Operators(self, world, list(hosts))
        self.networkers, self.keyers = Networkers(self, world, invariants), Keyers(self, world)
        self._sent = self._creating = 0
        self._tiny = [f"in-{pool}" for pool in world.chance.choice(POOLS)]
        self._keep = world.chance.random() < 0.5  # people have fewer VMs, keep them and change them, in this history
        self._max_vms = max_vms // 2 if self._keep else max_vms
        self._curates = world.chance.choice(CURATES)

    def act(self) -> None:
        chance = self._world.chance
        kind = chance.random()
        if self.networkers.act() or self.keyers.act() or self.operators.act():
            pass  # somebody did something with networks, keys or user data, or about hosts
        elif kind < PURGES and not self._keep:
            for id in [id for id in self.vms if chance.random() < 0.7]:
                self._delete("vm", id)
        elif kind < self._curates:
            self._act_on_images()
        elif len(self.vms) + self._creating < self._max_vms and kind < 0.55:
            for _ in range(chance.choice((1, 1, 4))):
                self._create()
        elif self.vms and (0.64 if self._keep else 0.0) < kind < 0.68:
            self._delete("vm", chance.choice(self.vms))
        elif self.vms and kind < 0.95:
            act = self._refit if self._keep and chance.random() < REFITS else self._command
            act(chance.choice(self.vms))
        elif self.vms:
            self._look(chance.choice(self.vms))
        if self.vms and chance.random() < 0.05:
            self.send("PATCH", f"/v1/vms/{chance.choice(self.vms)}", {"name": self._name()})
        if chance.random() < 0.1:
            self.send("PATCH", f"/v1/hosts/{chance.choice(self._hosts)}", {"enabled": chance.random() < 0.6})

    def send(
        self, method: str, path: str, body: Any = None, makes: str = "", then: Callable[[Answer], None] = lambda _: None
    ) -> None:
        self._sent += 1
        request = Request(f"req-{self._sent}", method, path, body, makes, then)
        self.pending[self._sent] = request
        self._world.say("client", f"{request.name}: {method} {path} {body if isinstance(body, dict) else ''}")
        self._attempt(self._sent, request)
        if self._world.happens(TWICE):
            self._attempt(self._sent, request)

    def say_once(self, method: str, path: str, body: Any) -> None:
        self._world.chance.choice(self._apis).answer(method, path, body)

    def _attempt(self, number: int, request: Request) -> None:
        request.attempts += 1
        attempt, chance = request.attempts, self._world.chance
        self._world.after(
            chance.choice(LATENCIES_S) if self._world.faulty else 0.001,
            partial(self._arrive, number, request, chance.choice(self._apis)),
        )

        def again() -> None:
            if request.answer is None and request.attempts == attempt:
                self._attempt(number, request)

        self._world.after(GIVES_UP_S, again)

    def _arrive(self, number: int, request: Request, api: ApiNode) -> None:
        lost = LOST * self._world.weather.losses
        if request.answer and self._world.chance.random() > OUTLIVES:
            return  # who asked has hung up
        if (busy_s := api.busy_s()) > 0:
            self._world.after(busy_s, partial(self._arrive, number, request, api))
        elif not self._world.happens(lost):
            existed, was_done, free = self._exists(request), request.name in self._invariants.promises.done, self._free(request)
            answer = api.answer(request.method, request.path, request.body, {"Idempotency-Key": request.name})
            if answer:
                self._world.say(api.name, f"answers {request.name}: {answer.status} {answer.body.get('error', '')}")
                self._judge(request, answer, existed, was_done, free)
                if not self._world.happens(lost):
                    self._receive(number, request, answer)

    def _exists(self, request: Request) -> bool:
        vm = self._invariants.records.vms.get(request.path.rpartition("/")[2])
        return vm is not None and not vm.deleted_at

    def _free(self, request: Request) -> tuple[bool, int]:
        """Whether the name that it asks for is free, and how often it became so."""
        name = request.body["name"] if request.makes == "vm" else ""
        return name not in self._invariants.records.names, self._invariants.records.freed[name]

    def _judge(self, request: Request, answer: Answer, existed: bool, was_done: bool, free: tuple[bool, int]) -> None:
        """What is answered must be true, also where the answer gets lost. existed, was_done, free: when it arrived."""
        if answer.status < 300 and "action" in answer.body:
            self._invariants.records.sizes.answered(answer.body["action"])
        if request.method == "POST":
            is_own = free == (True, self._free(request)[1])
            promises = self._invariants.promises
            promises.answered(request.name, answer.status, answer.body, request.makes, was_done, is_own)
        elif request.method == "GET" and answer.status == 404 and existed and self._exists(request):
            raise Violation(f"{request.path} is not found, and is there")
        elif request.method == "DELETE" and answer.status < 300 and self._exists(request):
            raise Violation(f"{request.path} is said to be deleted, and is not")

    def _receive(self, number: int, request: Request, answer: Answer) -> None:
        chance = self._world.chance
        if answer.status in DEFERRED:
            if request.answer is None:
                self._world.after(chance.choice(PATIENCE_S), partial(self._attempt, number, request))
        elif request.answer is None:
            request.answer = answer
            del self.pending[number]
            request.then(answer)
            if self._world.happens(REPEATED):
                self._world.after(chance.choice(PATIENCE_S), partial(self._arrive, number, request, chance.choice(self._apis)))

    # What people ask for.

    def _create(self, image: str = "") -> None:
        chance = self._world.chance
        self._creating += 1
        body = {
            "name": self._name(),
            "image": image or chance.choice([*self._tiny, *self.images]),
            "cpus": 64 if chance.random() < 0.02 else chance.choice((1, 1, 2)),
            "memory_mib": chance.choice(MEMORY_MIB),
            "disk_mib": DISK_MIB,
            "spread": chance.choice(GROUPS),
            "ha": chance.choice(("", "", "", "never")),
            "priority": chance.choice(("", "", "high", "low")),
            "host": chance.choice(("", "", "", "", "rack=r2", *self._hosts)),
        }
        wanted = {field: value for field, value in body.items() if value}
        self.send("POST", "/v1/vms", wanted | self.networkers.of_new_vm() | self.keyers.of_new_vm(), "vm", self._created)

    def _name(self) -> str:
        return f"web-{self._world.chance.randrange(15)}"

    def _created(self, answer: Answer) -> None:
        self._creating -= 1
        if answer.status < 300:
            id = answer.body["vm"]["id"]
            self.vms.append(id)
            self.actions[id] = answer.body["action"]["id"]
            if self._world.happens(REGRETS):
                self._world.after(self._world.chance.choice(REGRETS_S), partial(self._delete, "vm", id))
            if self._world.happens(SECOND_THOUGHTS):
                self._world.after(self._world.chance.choice(SECOND_S), partial(self.act_on, id, "resize", self._size(id)))

    def _delete(self, noun: str, id: str) -> None:
        def forget(answer: Answer) -> None:
            known = self.vms if noun == "vm" else self.images
            if answer.status != 409 and id in known:
                known.remove(id)

        self._invariants.records.unwanted.add(id)
        self.send("DELETE", f"/v1/{noun}s/{id}", then=forget)

    def _command(self, id: str) -> None:
        chance = self._world.chance
        verb = chance.choice(VERBS)
        if verb == "resize":
            self.act_on(id, verb, self._size(id))
        else:
            self.act_on(id, verb, {"force": True} if verb == "stop" and chance.random() < 0.3 else None)

    def act_on(self, id: str, verb: str, body: Any = None, then: Callable[[Answer], None] = lambda _: None) -> None:
        def remember(answer: Answer) -> None:
            if answer.status < 300:
                self.actions[id] = answer.body["action"]["id"]
                if verb == "resize":
                    self.resizes[id] = self.actions[id]
            then(answer)

        self.send("POST", f"/v1/vms/{id}/actions/{verb}", body, then=remember)

    def _refit(self, id: str, verbs: Sequence[str] = REFIT) -> None:
        """One after the other; as long as it has not stopped, again."""
        verb, *rest = verbs

        def go_on(answer: Answer) -> None:
            left = verbs if verb == "resize" and answer.status == 409 and id in self.vms else rest
            if left and self._world.faulty:
                self._world.after(self._world.chance.choice(REFITS_S), partial(self._refit, id, left))

        body = {"stop": {"force": self._world.chance.random() < 0.9}, "resize": self._size(id)}.get(verb)
        self.act_on(id, verb, body, go_on)

    def _size(self, id: str) -> dict[str, int]:
        """Rarely one that cannot be."""
        chance, vm = self._world.chance, self._invariants.records.vms.get(id)
        has_mib = vm.disk_mib if vm else DISK_MIB
        size = {
            "cpus": chance.choice((1, 2, 2, 4)),
            "memory_mib": 1 << 20 if chance.random() < TOO_LARGE else chance.choice((128, 384, 512, 768)),
            "disk_mib": has_mib - 1 if chance.random() < SMALLER_DISK else has_mib + chance.choice((0, 5)),
        }
        return {field: size[field] for field in chance.sample(sorted(size), chance.choice((1, 2, 3)))}

    def _look(self, id: str) -> None:
        resize = self.resizes.get(id)
        self.send("GET", f"/v1/actions/{resize}" if resize and self._world.chance.random() < 0.7 else f"/v1/vms/{id}")

    def _act_on_images(self) -> None:
        chance = self._world.chance
        name = f"image-{chance.randrange(4)}"
        if self.images and chance.random() < 0.3:
            body: dict[str, object] = {"name": name, "source": chance.choice(self.images)}
            self.send("POST", "/v1/images", body, "image", self._know_image)
        elif len(self.images) < MAX_IMAGES and chance.random() < 0.7:
            data = BROKEN if chance.random() < 0.1 else DATA
            body = {"name": name, "pool": "default", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            self.send("POST", "/v1/images", body, "image", partial(self._upload, data))
        elif self.images:
            image = chance.choice(self.images)
            if chance.random() < RACES:
                self._create(image)
            self._delete("image", image)

    def _upload(self, data: bytes, answer: Answer) -> None:
        if answer.status < 300:
            self._know_image(answer)
            self.send("PUT", f"/v1/images/{answer.body['image']['id']}/data", data)

    def _know_image(self, answer: Answer) -> None:
        if answer.status < 300 and answer.body["image"]["id"] not in self.images:
            self.images.append(answer.body["image"]["id"])
