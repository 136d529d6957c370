"""What the scheduler tells people: its decisions, hosts that fall silent, records that cannot be read.

Called by the scheduler's loop (`ucloud.loop.Decider`), in the process that leads and in those that stand by.
"""

import logging
import re

import msgspec

from ucloud.model.decision import Decision
from ucloud.model.event import News, subject
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Host
from ucloud.model.vm import Manifest, Placement, Vm
from ucloud.store.journal import Journal

log = logging.getLogger("ucloud.event")

DONE = {
    "place": "placed",
    "move": "moved",
    "wait": "waits",
    "tell": "told",
    "release": "released",
    "lose": "lost",
    "forget": "forgotten",
}
NUMBER = re.compile(r"\d+")


class SchedulerReport:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unreadable: dict[str, str] = {}  # what was told of last
        self._heard: set[str] | None = None  # the heartbeats that were there at the last look

    def looked(self, facts: Facts, leads: bool) -> None:
        self._look_at_hosts(facts, leads)
        if leads:
            self._look_at_unreadable(facts)

    def decided(self, facts: Facts, decision: Decision) -> None:
        if news := news_of(facts, decision):
            vm = facts.get(Vm, subject(decision.key))
            self._journal.say(news, decision.key, vm.record.name if vm else "")

    def _look_at_hosts(self, facts: Facts, leads: bool) -> None:
        heard = set(facts.all(Alive))
        before, self._heard = self._heard, heard
        if before is None or not leads:
            return
        for key in sorted(heard ^ before):
            host = facts.get(Host, subject(key))
            if host and key in heard:
                self._journal.say(News("heard", "its heartbeat is there"), key, host.record.name)
            elif host:
                self._journal.say(News("silent", "its heartbeat was not renewed"), key, host.record.name)

    def _look_at_unreadable(self, facts: Facts) -> None:
        """Once of each, and again when it is unreadable for another reason."""
        for key, reason in facts.bad.items():
            if self._unreadable.get(key) != reason:
                log.info("%s: this record cannot be read and is left out: %s", key, reason)
                self._journal.say(News("unreadable", f"the record {key} cannot be read and is left out: {reason}"), key)
        self._unreadable = dict(facts.bad)


def news_of(facts: Facts, decision: Decision) -> News | None:
    """None where a VM goes on waiting for the same, but for numbers: how much is free changes with every other VM. Nor where
    its host is told the same, made from other records: its labels have changed, say. Nor of what is about no VM, nor where one
    waits no more: what it does then is told."""
    if decision.verb in ("clear", "go-on"):
        return None
    if decision.verb == "wait":
        before = facts.get(Placement, Placement.at(decision.key.removeprefix(Vm.prefix)))
        known = (before.record.waits_for if before.record.host else before.record.reason) if before else ""
        if NUMBER.sub("", known) == NUMBER.sub("", decision.reason):
            return None
    if decision.verb == "tell" and all(is_the_same(facts, told) for told in decision.puts if isinstance(told, Manifest)):
        return None
    return News(DONE.get(decision.verb, decision.verb), decision.reason.removeprefix("placed "))


def is_the_same(facts: Facts, told: Manifest) -> bool:
    said = facts.get(Manifest, told.key)
    return said is not None and msgspec.structs.replace(said.record, revisions=told.revisions) == told
