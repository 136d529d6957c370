"""Loops, views and daemons from which a protection of failover was taken. Used by `sim.protections`, as `sim.weakened` is."""

from typing import Any, TypeVar

import msgspec

from ucloud.driver.fence.fake import FakeFence
from ucloud.host.deadman import Deadman
from ucloud.host.decide import World as Sight
from ucloud.host.loop import HostLoop
from ucloud.hostmanager.manager import Manager
from ucloud.model.decision import Decision
from ucloud.model.host import Alive, Failover
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.store.view import View

R = TypeVar("R", bound=Record)


class NoKill(Deadman):
    """Watches the lease run out."""

    def __init__(self, deadline: Any, kill: Any, clock: Any) -> None:
        super().__init__(deadline, frozenset, clock)


class NoEnd(HostLoop):
    """Says under a fence that nothing runs, whatever runs."""

    def _look(self, vms: set[str] | None) -> Sight:
        sight = super()._look(vms)
        return msgspec.structs.replace(sight, guests={}, at_rest=True, is_clean=True) if sight.fence else sight


class NoProof(Manager):
    """Runs no command, and takes every pool that has one for safe."""

    def __init__(self, clock: Any, ttl_s: float, hands: Any, *more: Any) -> None:
        super().__init__(clock, ttl_s, FakeFence(), *more)


class NoPatience(Manager):
    """Takes a heartbeat that is gone for the sign of a host that is."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._patience_s = 0.0


class NoRewrite(View):
    """To the host manager every manifest seems to be newer than the fence."""

    def all(self, kind: type[R]) -> dict[str, Fact[R]]:
        facts = super().all(kind)
        if kind is Manifest and self.watches(Failover.prefix):
            return {key: msgspec.structs.replace(fact, revision=1 << 60) for key, fact in facts.items()}
        return dict(facts)


class Changed(View):
    """Shows some records other than they are."""

    def changed_to(self, record: R) -> R:
        raise NotImplementedError

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        fact = super().get(kind, key)
        return fact and msgspec.structs.replace(fact, record=self.changed_to(fact.record))

    def all(self, kind: type[R]) -> dict[str, Fact[R]]:
        return {
            key: msgspec.structs.replace(fact, record=self.changed_to(fact.record)) for key, fact in super().all(kind).items()
        }


class NoDegraded(Changed):
    def changed_to(self, record: R) -> R:
        return msgspec.structs.replace(record, degraded=False) if isinstance(record, Alive) else record


class NoHa(Changed):
    """Takes all VMs for such as may be restarted elsewhere."""

    def changed_to(self, record: R) -> R:
        may_move = isinstance(record, Vm | Status) and self.watches(Placement.prefix)
        return msgspec.structs.replace(record, ha="restart") if may_move else record


def no_epochs(decisions: list[Decision]) -> list[Decision]:
    """Who moves keeps its epoch."""
    return [
        msgspec.structs.replace(
            decision,
            puts=tuple(
                msgspec.structs.replace(record, epoch=record.epoch - 1) if isinstance(record, Placement | Manifest) else record
                for record in decision.puts
            ),
        )
        if decision.verb == "move"
        else decision
        for decision in decisions
    ]
