"""Forgets requests that nobody will repeat any more. Pure; run by the control daemon as a `ucloud.loop.Decider`."""

from ucloud.base.clock import parse_timestamp
from ucloud.model.bookkeeping import Idempotency
from ucloud.model.decision import Decision, unchanged
from ucloud.model.facts import Facts

KEPT_S = 24 * 3600.0
PERIOD_S = 600.0


def decide(facts: Facts, now_s: float) -> list[Decision]:
    """A request is known again for a day, and not for ever."""
    return [
        Decision(
            verb="sweep",
            key=fact.key,
            reason="older than a day",
            deletes=(fact.key,),
            requires=(unchanged(fact),),
        )
        for fact in facts.all(Idempotency).values()
        if now_s - parse_timestamp(fact.record.created) > KEPT_S
    ]
