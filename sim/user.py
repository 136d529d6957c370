"""The people of the simulated cloud: they create, stop, start, reset and delete VMs, and write what the API writes."""

from collections.abc import Callable
from functools import partial

import msgspec

from sim.world import World
from ucloud.api.phase import gather
from ucloud.api.records import StoreSource
from ucloud.api.vm import CHANGES
from ucloud.base.clock import timestamp
from ucloud.base.errors import Conflict, Temporary
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Requirement, absent, unchanged
from ucloud.model.image import Image
from ucloud.model.record import Fact, encode
from ucloud.model.vm import Vm
from ucloud.store.contract import Store

IMAGE, POOL, DISK_MIB = "image-1", "default", 10
MAX_VMS = 10
PURGES = 0.05  # so that hosts fill up again and again
MEMORY_MIB = (128, 256, 384, 512)
REGRETS, REGRETS_S = 0.3, (0.02, 0.1, 0.5, 2.0)  # creates that are undone soon
VERBS = ("stop", "stop", "start", "start", "start", "reboot", "reset")


class User:
    """Patient but impolite: gives up a request that fails, sometimes repeats one that succeeded."""

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store, self._source = world, store, StoreSource(store)
        self._ids: list[str] = []  # all that may exist
        self._made = 0

    def act(self) -> None:
        chance = self._world.chance
        if chance.random() < PURGES:
            for id in [id for id in self._ids if chance.random() < 0.7]:
                self._try(partial(self._delete, id))
        elif len(self._ids) < MAX_VMS and chance.random() < 0.5:
            for _ in range(chance.choice((1, 1, 4))):
                self._try(self._create)
        elif self._ids and chance.random() < 0.3:
            self._try(partial(self._delete, chance.choice(self._ids)))
        elif self._ids:
            self._try(self._command)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (Conflict, Temporary) as error:
            self._world.say("user", f"is told: {error.message}")

    def _create(self) -> None:
        self._made += 1
        id = f"vm-{self._made:03}"  # none begins with another, as leftovers are searched for by name
        self._ids.append(id)
        chance = self._world.chance
        image = self._source.get(Image, Image.at(IMAGE))
        assert image
        vm = Vm(
            id=id,
            name=f"web-{chance.randrange(30)}",
            image=IMAGE,
            pool=POOL,
            cpus=64 if chance.random() < 0.03 else 1,
            memory_mib=chance.choice(MEMORY_MIB),
            disk_mib=DISK_MIB,
            created=timestamp(self._world.now_s()),
        )
        claims = (keys.unique("vm", vm.project, vm.name), keys.use("image", IMAGE, id))
        puts = {vm.key: encode(vm)} | {path: encode(Unique(path=path, owner=id)) for path in claims}
        requires: list[Requirement] = [absent(vm.key), unchanged(image), *map(absent, claims)]
        self._world.say("user", f"creates {id} with {vm.memory_mib} MiB")
        if chance.random() < REGRETS:
            self._world.after(chance.choice(REGRETS_S), partial(self._try, partial(self._delete, id)))
        self._store.commit(puts, (), requires)

    def _delete(self, id: str) -> None:
        self._change(id, "delete", lambda _: {"deleted_at": timestamp(self._world.now_s())})

    def _command(self) -> None:
        chance = self._world.chance
        verb = chance.choice(VERBS)
        force = verb == "stop" and chance.random() < 0.3
        self._change(chance.choice(self._ids), verb, lambda vm: CHANGES[verb](vm.record, self._is_off(vm), force))

    def _change(self, id: str, verb: str, change: Callable[[Fact[Vm]], dict[str, object]]) -> None:
        vm = self._source.get(Vm, Vm.at(id))
        if vm is None or vm.record.deleted_at:
            self._ids = [other for other in self._ids if other != id]
            return
        self._world.say("user", f"{verb} {id}")
        if changes := change(vm):
            record = msgspec.structs.replace(vm.record, **changes)
            self._store.commit({vm.key: encode(record, vm.unknown)}, (), [unchanged(vm)])

    def _is_off(self, vm: Fact[Vm]) -> bool:
        status = gather(self._source, vm).status
        return status is not None and status.phase == "off" and status.boots >= vm.record.boots
