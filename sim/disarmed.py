"""Views from which a protection of failover was taken. Used by `sim.protections`, as `sim.weakened` is."""

from typing import TypeVar

import msgspec

from ucloud.model.host import Failover
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.store.view import View

R = TypeVar("R", bound=Record)


class NoRewrite(View):
    """To the host manager every manifest seems to be newer than the fence."""

    def all(self, kind: type[R]) -> dict[str, Fact[R]]:
        facts = super().all(kind)
        if kind is Manifest and self.watches(Failover.prefix):
            return {key: msgspec.structs.replace(fact, revision=1 << 60) for key, fact in facts.items()}
        return dict(facts)


class NoHa(View):
    """Takes all VMs for such as may be restarted elsewhere."""

    def get(self, kind: type[R], key: str) -> Fact[R] | None:
        fact = super().get(kind, key)
        return fact and self._movable(fact)

    def all(self, kind: type[R]) -> dict[str, Fact[R]]:
        return {key: self._movable(fact) for key, fact in super().all(kind).items()}

    def _movable(self, fact: Fact[R]) -> Fact[R]:
        if not (isinstance(fact.record, Vm | Status) and self.watches(Placement.prefix)):
            return fact
        return msgspec.structs.replace(fact, record=msgspec.structs.replace(fact.record, ha="restart"))
