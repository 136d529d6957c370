"""Sets of things (`ucloud.model.wiring`) and who wants them: what somebody wants is there, what nobody wants any more is not.

Used by `ucloud.host.network`, by one thread at a time. The cost of a change is the size of the change; `mend` alone looks at
everything.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ucloud.base.errors import Temporary
from ucloud.driver.things import Things
from ucloud.model.wiring import Plug, Segment, Thing


class Id(NamedTuple):
    """Of a thing, whatever its state."""

    kind: type[Thing]
    key: str


class Set(NamedTuple):
    """Things of one type, and the driver that brings them about. There may be several sets of a type."""

    kind: type[Thing]
    driver: Things[Any]


class Mended(NamedTuple):
    """mended: what somebody else had changed and is as it should be again; failed: what cannot be made so, and why; both with
    the name of their set."""

    mended: list[tuple[str, Thing]]
    failed: list[tuple[str, Thing | None, str]]


class Wiring:
    """sets: in the order in which things are added; they are removed in reverse."""

    def __init__(self, sets: Sequence[Set]) -> None:
        self._sets = sets
        self._wants: dict[str, dict[Id, Thing]] = {}  # of each user
        self._users: dict[Id, dict[str, Thing]] = {}  # what each user says that a thing should be; the last one counts
        self._unwanted: dict[Id, str] = {}  # to be removed, and who wanted it last
        self._there: list[dict[str, Thing | None]] | None = None  # in each set, when we looked and by what we did since

    def want(self, user: str, things: Iterable[Thing]) -> None:
        """All of this is there, and nothing else is wanted by this user from now on. Raises Temporary: then some of it is
        not there yet; the same call again goes on, and so does `mend`."""
        wanted = self.note(user, things)
        if self._there is None:
            self._look()
        self._add(wanted)
        self._remove([id for id, by in self._unwanted.items() if by == user])

    def clear(self, vm: str) -> None:
        """Nothing is there for this VM that nobody wants, whoever made it. Raises Temporary."""
        self.want(vm, ())
        self._remove({id for id in self._found() if id.key.endswith(f"/{vm}")} - self._users.keys())

    def note(self, user: str, things: Iterable[Thing]) -> Collection[Id]:
        """As `want`, but nothing is done yet."""
        wanted = {Id(type(thing), thing.key): thing for thing in things}
        before = self._wants.pop(user, {})
        if wanted:
            self._wants[user] = wanted
        for id in before:
            self._users[id].pop(user)
        for id, thing in wanted.items():
            self._users.setdefault(id, {})[user] = thing
        for id in before:
            if not self._users[id]:
                del self._users[id]
                self._unwanted[id] = user
        for id in wanted:
            self._unwanted.pop(id, None)
        return wanted.keys()

    def mend(self, spared: Collection[str] = ()) -> Mended:
        """Look at everything, and make it as it should be. spared: VMs of which nobody knows what they need now: of networks
        that one of them is on, nothing is removed. Raises Temporary where it cannot even be looked at."""
        before, done = self._there, Mended([], [])
        broken: list[str] = []  # keys
        order = [kind for kind, _ in self._sets]
        self._look()
        for id in sorted(self._users, key=lambda id: order.index(id.kind)):
            if self._is_there(id) or any(rests_on(id.key, key) for key in broken):
                continue
            was_there = before is not None and self._was_there(before, id)
            name, wanted = self._missing_from(id), self._wanted(id)
            try:
                self._add([id])
            except Temporary as error:
                done.failed.append((name, wanted, error.message))
                broken.append(id.key)
            else:
                done.mended.extend([(name, wanted)] if was_there else [])
        found = self._found()
        self._unwanted = {id: user for id, user in self._unwanted.items() if id in found}
        strange = [(id, id.key.split("/")) for id in found - self._users.keys()]
        left = {vni for _, (vni, *rest) in strange if spared and rest and rest[0] in spared}
        try:
            self._remove([id for id, (vni, *_) in strange if vni not in left])
        except Temporary as error:
            done.failed.append(("what is left over", None, error.message))
        return done

    def _look(self) -> None:
        self._there = None  # if it fails, we know nothing
        self._there = [dict(driver.actual()) for _, driver in self._sets]

    def _add(self, ids: Collection[Id]) -> None:
        for (kind, driver), there in self._of_each_set():
            things = [self._wanted(id) for id in ids if id.kind is kind]
            missing = [thing for thing in things if there.get(thing.key) != thing]
            self._do(driver.add, missing, [thing.key for thing in missing], there)
            there.update({thing.key: thing for thing in missing})

    def _remove(self, ids: Collection[Id]) -> None:
        """One that cannot be removed keeps no other from it, but for what it rests on. A network stays as long as something is
        plugged into it, whatever is known of that."""
        failed: dict[Id, Temporary] = {}
        for (kind, driver), there in reversed(self._of_each_set()):
            for id in [id for id in ids if id.kind is kind and id.key in there]:
                if any(rests_on(other.key, id.key) for other in failed) or (kind is Segment and self._has_plugs(id.key)):
                    continue
                try:
                    self._do(driver.remove, [id.key], [id.key], there)
                    del there[id.key]
                except Temporary as trouble:
                    failed[id] = trouble
        for id in ids:
            if all(id.key not in there for (kind, _), there in self._of_each_set() if kind is id.kind):
                self._unwanted.pop(id, None)
        for error in failed.values():
            raise error

    def _has_plugs(self, network: str) -> bool:
        plugs = (there for (kind, _), there in self._of_each_set() if kind is Plug)
        return any(rests_on(key, network) for there in plugs for key in there)

    def _do(self, act: Callable[[Any], None], what: Sequence[Any], keys: Iterable[str], there: dict[str, Thing | None]) -> None:
        """Whatever becomes of it, we don't know before we look again."""
        try:
            if what:
                act(what)
        except Temporary:
            there.update(dict.fromkeys(keys))
            raise

    def _of_each_set(self) -> list[tuple[Set, dict[str, Thing | None]]]:
        assert self._there is not None
        return list(zip(self._sets, self._there, strict=True))

    def _wanted(self, id: Id) -> Thing:
        return list(self._users[id].values())[-1]

    def _is_there(self, id: Id) -> bool:
        assert self._there is not None
        return self._was_there(self._there, id)

    def _was_there(self, then: Sequence[Mapping[str, Thing | None]], id: Id) -> bool:
        wanted = self._wanted(id)
        return all(there.get(id.key) == wanted for (kind, _), there in zip(self._sets, then, strict=True) if kind is id.kind)

    def _found(self) -> frozenset[Id]:
        return frozenset(Id(kind, key) for (kind, _), there in self._of_each_set() for key in there)

    def _missing_from(self, id: Id) -> str:
        """The name of the first set that does not have it as it should be."""
        wanted, sets = self._wanted(id), self._of_each_set()
        return next(driver.name for (kind, driver), there in sets if kind is id.kind and there.get(id.key) != wanted)


def rests_on(key: str, other: str) -> bool:
    """Whether what has this key is not to be made while what comes before it, under the other one, is missing: a VM's part
    (5/vm-a) rests on that of its network (5), a plug on the filter of the same port."""
    return f"{key}/".startswith(f"{other}/")
