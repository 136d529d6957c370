"""Requests are known again for a day."""

from tests.unit.world import World
from ucloud.base.clock import timestamp
from ucloud.idempotency.decide import KEPT_S, decide
from ucloud.model.bookkeeping import Idempotency
from ucloud.model.decision import Unchanged

NOW_S = 1_800_000_000.0


def test_only_what_is_older_than_a_day_goes() -> None:
    old, young = (
        Idempotency(project="default", name=name, body="0", created=timestamp(NOW_S - age_s))
        for name, age_s in (("old", KEPT_S + 1), ("young", KEPT_S - 1))
    )
    seen = World(old, young).facts()
    [decision] = decide(seen, NOW_S)
    assert decision.deletes == (old.key,)
    fact = seen.get(Idempotency, old.key)
    assert fact
    assert decision.requires == (Unchanged(old.key, fact.revision),)
