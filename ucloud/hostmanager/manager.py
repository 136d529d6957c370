"""What the host manager remembers between two looks: since when hosts are silent, and what became of fence commands.

Made by the control daemon, which gives `decide` and this object itself, as the report, to `ucloud.loop.Decider`. Who stands by
looks, too; a new leader waits no less than the old one would have, and runs commands that are under way once more.

A host is silent only when its heartbeat has been gone for half a TTL by this process's own clock: its next renewal, which comes
after a quarter, puts a heartbeat back that etcd took away too early (doc/fencing.md, chapter 3).
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Temporary
from ucloud.driver.fence.contract import TIMEOUT_S
from ucloud.driver.fence.contract import Fence as Hands
from ucloud.hostmanager.decide import STORM_S, Command, Outcome, World, are_too_many, commands, decide, is_known
from ucloud.model import keys
from ucloud.model.decision import Decision
from ucloud.model.event import News
from ucloud.model.facts import Facts
from ucloud.model.host import Alive, Fence, Host
from ucloud.store.journal import Journal

log = logging.getLogger("ucloud.hostmanager")

PERIOD_S = 1.0
GRACE_S = 5.0  # and one TTL, after etcd had no quorum, and from the first look on
PATIENCE = 0.5  # of a TTL
LATE_S = 1.0  # more than a TTL between two looks: etcd did not answer
AGAIN_S, LONGEST_S = 2.0, 60.0  # until a fence command that failed is run again
DONE = {
    "declare": "declared dead",
    "fence": "fenced",
    "try": "not fenced yet",
    "lift": "back",
    "hold": "held",
    "go on": "released",
    "forget": "removed",
}

Task = Callable[[], None]


def in_thread(task: Task) -> None:
    """It dies with the process."""
    threading.Thread(target=task, name="fence", daemon=True).start()


class Retry(msgspec.Struct):
    times: int = 0
    due_s: float = 0.0


class Manager:
    """ttl_s: of hosts. begin: runs a task, by and by or at once, after which `wake` is called."""

    def __init__(
        self,
        clock: Clock,
        ttl_s: float,
        hands: Hands,
        journal: Journal,
        wake: Task = lambda: None,
        begin: Callable[[Task], None] = in_thread,
    ) -> None:
        self._clock, self._ttl_s, self._hands, self._journal = clock, ttl_s, hands, journal
        self._patience_s = PATIENCE * ttl_s
        self._wake, self._begin = wake, begin
        self._gone: dict[str, float] = {}  # host → since when it has no heartbeat, as far as this process has seen
        self._silent: set[str] = set()  # those that are gone for long enough
        self._fell: dict[str, float] = {}  # host → when it fell silent, also of those that are heard again, for STORM_S
        self._storm_s: float | None = None  # when the last one of too many fell silent
        self._declared_s = float("-inf")
        self._looked_s = float("-inf")
        self._believe_s = 0.0  # from when on etcd's silence about a host means something
        self._led_s: float | None = None  # since when this process leads
        self._outcomes: dict[Command, Outcome] = {}
        self._retries: dict[Command, Retry] = {}
        self._running: set[Command] = set()
        self._lock = threading.Lock()  # of outcomes, retries, running

    # What the loop calls.

    def looked(self, facts: Facts, leads: bool) -> None:
        """Also who stands by remembers, so that it knows as much when it leads."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > self._ttl_s + LATE_S:
            self._believe_s = now_s + self._ttl_s + GRACE_S
        self._looked_s = now_s
        self._led_s = (now_s if self._led_s is None else self._led_s) if leads else None
        gone = {fact.record.id for fact in facts.all(Host).values() if not facts.get(Alive, Alive.at(fact.record.id))}
        self._gone = {host: self._gone.get(host, now_s) for host in gone}
        silent = {host for host, since_s in self._gone.items() if now_s - since_s >= self._patience_s and is_known(facts, host)}
        undeclared = {host for host in silent if facts.get(Fence, keys.fence(host)) is None}
        self._fell |= dict.fromkeys(undeclared - self._silent, now_s)
        self._fell = {host: at_s for host, at_s in self._fell.items() if now_s - at_s < STORM_S}
        self._silent = silent
        if are_too_many(len(self._fell), len(facts.all(Host))):
            self._storm_s = max(self._fell.values())
        elif self._storm_s is not None and not undeclared:  # over
            self._storm_s = None

    def period_s(self) -> float:
        """Until the next one that is gone counts as silent, or PERIOD_S."""
        now_s = self._clock.monotonic_s()
        due_s = [since_s + self._patience_s - now_s for host, since_s in self._gone.items() if host not in self._silent]
        return min([PERIOD_S, *(wait_s for wait_s in due_s if wait_s > 0)])

    def decide(self, facts: Facts, now_s: float) -> list[Decision]:
        at_s = self._clock.monotonic_s()
        self._run_commands(facts, at_s)
        with self._lock:
            outcomes, running = dict(self._outcomes), frozenset(self._running)
        world = World(
            facts=facts,
            silent=frozenset(self._silent),
            calm_s=None if self._storm_s is None else at_s - self._storm_s,
            paced_s=at_s - self._declared_s,
            trust_s=max(0.0, self._believe_s - at_s),
            outcomes=outcomes,
            running=running,
            others_s=max(0.0, (self._led_s or 0.0) + TIMEOUT_S - at_s),
        )
        return decide(world, now_s)

    def decided(self, facts: Facts, decision: Decision) -> None:
        if decision.verb == "declare":
            self._declared_s = self._clock.monotonic_s()
        if word := DONE.get(decision.verb):
            host = facts.get(Host, Host.at(decision.key.partition("/")[2]))
            self._journal.say(News(word, decision.reason), decision.key, host.record.name if host else "")

    # Fence commands.

    def _run_commands(self, facts: Facts, at_s: float) -> None:
        wanted = {command: (host, url) for command, host, url in commands(facts)}
        with self._lock:
            self._outcomes = {command: found for command, found in self._outcomes.items() if command in wanted}
            self._retries = {command: retry for command, retry in self._retries.items() if command in wanted}
            due = [c for c in wanted if c not in self._running and self._retries.get(c, Retry()).due_s <= at_s]
            due = [c for c in due if not self._outcomes.get(c, Outcome()).proof]
            self._running |= set(due)
        for command in due:
            host, url = wanted[command]
            self._begin(partial(self._run, command, host, urlsplit(url).hostname or ""))

    def _run(self, command: Command, host: Host, address: str) -> None:
        """May be another thread."""
        _, _, pool = command
        outcome = Outcome(error="its fence command broke off, see the log of the control daemon")
        try:
            outcome = Outcome(proof=self._hands.cut_off(pool, host.name, address, host.id))
        except Temporary as error:
            log.warning("%s cannot be cut off %s: %s", host.name, pool, error.message)
            outcome = Outcome(error=error.message)
        finally:
            self._keep(command, outcome)
        self._wake()

    def _keep(self, command: Command, outcome: Outcome) -> None:
        with self._lock:
            retry = self._retries.setdefault(command, Retry())
            retry.due_s = self._clock.monotonic_s() + min(LONGEST_S, AGAIN_S * 2.0 ** min(retry.times, 16))
            retry.times += 1
            self._outcomes[command] = outcome
            self._running.discard(command)
