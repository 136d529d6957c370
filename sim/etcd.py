"""The store of the simulated cloud, what ails it as a whole, and what ails the way to it.

The store itself is the production `MemoryStore`. An etcd that is full refuses every put and every new lease, and lets deletes,
renewals and reads pass; one without quorum answers nobody, and no lease runs out until it has a leader again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sim.world import World
from ucloud.base.errors import Temporary
from ucloud.model.decision import Requirement
from ucloud.store.memory import MemoryStore

GIVES_UP_S = 3.0  # a caller that gets no answer
SLOW_S = (0.3, 1.0, 2.0)
REARM_S = 0.5


@dataclass
class Link:
    """Between one machine and the store. What passes: requests, their answers, and what watches are told. behind: of
    manifests they are told late."""

    requests: bool = True
    answers: bool = True
    watches: bool = True
    behind: bool = False


class Etcd:
    def __init__(self, world: World) -> None:
        self.store = MemoryStore(world)
        self.has_quorum, self.is_full, self.is_slow = True, False, False
        self._world = world

    def wait(self, link: Link) -> None:
        """Before each call: raises Temporary if it gets nowhere."""
        if self._world.faulty and not (self.has_quorum and link.requests):
            self._world.pass_time(GIVES_UP_S)
            raise Temporary("the store did not answer: nothing reached it", 0.5)
        if self._world.faulty and self.is_slow:
            self._world.pass_time(self._world.chance.choice(SLOW_S))

    def answer(self, link: Link) -> None:
        """After each call: raises Temporary if its answer gets lost."""
        if self._world.faulty and not (self.has_quorum and link.answers):
            self._world.pass_time(GIVES_UP_S)
            raise Temporary("the store's answer was lost", 0.5)

    def hears(self, link: Link) -> bool:
        return not self._world.faulty or (self.has_quorum and link.watches)

    def commit(self, puts: Mapping[str, bytes], deletes: Iterable[str], requires: Iterable[Requirement], lease: int) -> int:
        if puts:
            self._need_space()
        return self.store.commit(puts, deletes, requires, lease)

    def grant(self, ttl_s: float) -> int:
        self._need_space()
        return self.store.grant(ttl_s)

    def lose_quorum(self) -> None:
        self.has_quorum = False
        self._keep_leases()

    def elect(self) -> None:
        """A new leader gives each lease its whole time again."""
        self.has_quorum = True
        self.store.rearm_leases()

    def revoke(self, key: str) -> None:
        """What a leader of etcd did that stood still and goes on: it ends leases that were renewed with its successor."""
        item = self.store.get(key)
        if item and item.lease:
            self.store.revoke(item.lease)

    def heal(self) -> None:
        self.is_full = self.is_slow = False
        self.elect()

    def _need_space(self) -> None:
        if self.is_full:
            raise Temporary("the store is full", 5.0)

    def _keep_leases(self) -> None:
        if not self.has_quorum:
            self.store.rearm_leases()
            self._world.after(REARM_S, self._keep_leases)
