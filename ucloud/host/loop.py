"""The host's loop: looks at its manifests and at what really runs, decides, and lets workers do it.

Runs in the host daemon on every VM host. It reads and writes nothing in the store but this host's own part (DESIGN §2), and
may be killed at any moment: everything is found again by looking.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from queue import SimpleQueue

import msgspec

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, Error, Invalid, NoCapacity, Temporary
from ucloud.base.text import one_line
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.driver.pool.contract import Pool
from ucloud.host.acts import Acts
from ucloud.host.decide import Act, Step, World, decide
from ucloud.host.executor import Executor
from ucloud.host.memory import Memory
from ucloud.host.network import HostNetwork
from ucloud.host.news import news_of
from ucloud.host.userdata import UserData
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model import keys
from ucloud.model.decision import Decision, as_seen
from ucloud.model.event import News
from ucloud.model.host import Endpoint, Fence, Host, Inventory, Reconciled
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, PoolRef, Status, Vm
from ucloud.store.contract import Store
from ucloud.store.journal import Journal
from ucloud.store.view import View

log = logging.getLogger("ucloud.host")

PERIOD_S = 5.0  # between looks at all VMs, which repair what changed without a word


class Outcome(msgspec.Struct, frozen=True):
    """What became of a step. revision: of a commit that happened; error: why an act failed, or a commit was lost."""

    vm: str
    step: Step
    revision: int = 0
    error: Error | None = None


class HostLoop:
    """`pools` gives the driver of a pool that a manifest names, `cidata` the files for a guest with this user data; `inventory`
    and `endpoint` are what this host says of itself, without the strays, which the loop fills in. may_start: whether this host
    has its lease, asked right before each start, from any thread. beat: called after every look. is_member: whether the cloud
    knows this host, asked while nothing is known that it has said; it may raise Temporary."""

    name = "host"

    def __init__(
        self,
        store: Store,
        view: View,
        hypervisor: Hypervisor,
        pools: Callable[[PoolRef], Pool],
        network: HostNetwork,
        user_data: UserData,
        cidata: Callable[[Manifest, bytes], Mapping[str, bytes]],
        executor: Executor,
        clock: Clock,
        inventory: Inventory,
        endpoint: Endpoint,
        power_down_s: float = 90.0,
        journal: Journal | None = None,
        may_start: Callable[[], bool] = lambda: True,
        beat: Callable[[], None] = lambda: None,
        is_member: Callable[[], bool] = lambda: True,
    ) -> None:
        self.host = inventory.host
        self._may_start, self._beat, self._is_member = may_start, beat, is_member
        self._acts = Acts(hypervisor, pools, network, user_data, cidata, may_start)
        self._journal = journal
        self._news: dict[str, News] = {}  # VM → what to tell once its step is done
        self._store, self._view, self._clock = store, view, clock
        self._hypervisor, self._network, self._user_data, self._executor = hypervisor, network, user_data, executor
        self._inventory, self._endpoint, self._power_down_s = inventory, endpoint, power_down_s
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()  # from the workers; all that follows is the loop's alone
        self._memory = Memory(clock, lambda: network.wired)
        self._is_clean = False  # whatever was left of guests was ended under the fence that is there
        self._is_removed = False
        self._trimmed_s = clock.monotonic_s()
        self._is_crowded = False  # there is not enough memory for all that it is told of
        self._due: set[str] = set()  # VMs of which something changed, or whose step had to wait
        self._stepped_s = self._looked_s = float("-inf")  # when last, and when last at all VMs
        self._guests_changed = threading.Event()
        hypervisor.subscribe(self._guests_changed.set)

    def step(self) -> float:
        """Look, and have done what is to be done; answers when to look again. That the store is away is no fault of ours."""
        busy = self._executor.busy()  # before looking: what ends while we look is looked at the next time
        while not self._outcomes.empty():
            outcome = self._outcomes.get()
            self._learn(outcome)
            self._due.add(outcome.vm)
        self._trim()
        try:
            self._refresh()
            is_known = self._view.age_s <= MAX_VIEW_AGE_S and keys.fence(self.host) not in self._view.bad
        except Temporary:
            self._beat()
            raise
        pause_s = self._do_steps(busy) if is_known else 1.0
        self._beat()
        return pause_s

    def _do_steps(self, busy: Collection[str]) -> float:
        """For the VMs that something happened to, so that a change costs what it is, not what the host is; and for all of them
        once in a while, and under a fence."""
        now_s = self._clock.monotonic_s()
        self._due.update(self._memory.due(self._stepped_s))
        self._note_fence()
        looked_long_ago = now_s - self._looked_s >= PERIOD_S
        everything = looked_long_ago or self._acts.fenced > 0 or self._is_crowded or self.host in self._due
        world = msgspec.structs.replace(self._look(None if everything else self._due), at_rest=not busy)
        if everything:
            self._network.keep(with_network(world), world.manifests.keys(), self._unreadable(None))
        if everything:
            self._note_removal()
        may_act = world.fence or self._is_known_boot() or self._is_removed
        steps: dict[str, Step] = decide(world, self._clock.now_s()) if may_act else {}
        if everything and not self._is_removed:
            steps |= self._own(world)  # before it says under a fence that it is done: the next one is to name this boot
        self._stepped_s, self._looked_s = now_s, now_s if everything else self._looked_s
        self._due = {vm for vm in steps if vm in busy or self._memory.must_wait(vm)}
        for vm, step in steps.items():
            if vm not in self._due:
                self._submit(vm, step, world)
        return self._pause_s()

    def _refresh(self) -> None:
        if self._guests_changed.is_set():
            self._guests_changed.clear()
            self._looked_s = float("-inf")
        self._view.refresh()
        for key in self._view.changed:
            match key.split("/"):
                case ["manifest", _, vm] | ["status", _, "vm", vm]:
                    self._due.add(vm)
                case _:  # a fence, or what this host says of itself
                    self._looked_s = float("-inf")
        if any(key.startswith(Manifest.prefix) for key in self._view.changed):
            told_mib = sum(fact.record.memory_mib for fact in self._view.all(Manifest).values())
            self._is_crowded = told_mib > self._inventory.memory_mib

    def _note_fence(self) -> None:
        """Whatever failed before it came, or while it was there, is tried again at once."""
        fence = self._view.get(Fence, keys.fence(self.host))
        number = fence.record.number if fence else 0
        if number != self._acts.fenced:
            self._acts.fenced, self._is_clean = number, False
            self._memory.forget_failures()

    def _note_removal(self) -> None:
        """A host that was removed, and lives: no manifest names what is here, which is killed, and it says nothing any more."""
        key = self._inventory.key
        is_removed = self._view.get(Inventory, key) is None and key not in self._view.bad and not self._is_member()
        if is_removed and not self._is_removed:
            again = "to make this machine a host again, stop its daemons, then: ucloud host join URL TOKEN --force"
            log.error("this host was removed from the cloud: its guests are killed, and nothing begins here; %s", again)
        self._is_removed = is_removed

    def _submit(self, vm: str, step: Step, world: World) -> None:
        before = world.statuses.get(vm)
        if news := news_of(step, before.record if before else None, world.guests.get(vm)):
            self._news[vm] = news
        if isinstance(step, Decision):
            puts = {record.key: self._view.encode(record) for record in step.puts}
            self._executor.submit(vm, partial(self._commit, vm, step, puts))
        else:
            self._executor.submit(vm, partial(self._do, step))

    def _look(self, vms: set[str] | None) -> World:
        """What there is of these VMs, or of all."""
        unreadable = set() if self._acts.fenced else self._unreadable(vms)
        manifests = {fact.record.vm: fact for fact in self._told(vms) if fact.record.vm not in unreadable}
        statuses = {fact.record.vm: fact for fact in self._said(vms) if fact.record.vm not in unreadable}
        guests = {vm: guest for vm, guest in self._hypervisor.actual(vms).items() if vm not in unreadable}
        known = {*manifests, *statuses, *guests, self.host}
        self._memory.tidy(vms, known, {vm: fact.record for vm, fact in manifests.items()}, guests)
        self._memory.has_come_back(self._view.seen)
        reconciled = self._view.get(Reconciled, Reconciled.at(self.host, "reconciled"))
        return World(
            host=self.host,
            manifests=manifests,
            statuses=statuses,
            guests=guests,
            errors=self._memory.errors(),
            held=self._memory.held(),
            asked_s=self._memory.asked_s(),
            erased=self._memory.erased(manifests),
            wired=self._network.wired,
            power_down_s=self._power_down_s,
            may_start=self._may_start(),
            memory_mib=self._inventory.memory_mib,
            fence=self._view.get(Fence, keys.fence(self.host)),
            reconciled=reconciled,
            boot=self._inventory.boot,
            is_clean=self._is_clean,
        )

    def _unreadable(self, vms: set[str] | None) -> set[str]:
        """VMs, of these or of all, of which not everything is known: they are left alone."""
        lacking = {fact.record.vm for fact in self._told(vms) if not self._user_data.is_here(fact.record)}
        return lacking | {key.rsplit("/", 1)[-1] for key in self._view.bad}

    def _told(self, vms: set[str] | None) -> Iterable[Fact[Manifest]]:
        if vms is None:
            return self._view.all(Manifest).values()
        facts = (self._view.get(Manifest, Manifest.at(self.host, vm)) for vm in vms)
        return (fact for fact in facts if fact)

    def _said(self, vms: set[str] | None) -> Iterable[Fact[Status]]:
        if vms is None:
            return self._view.all(Status).values()
        facts = (self._view.get(Status, Status.at(self.host, "vm", vm)) for vm in vms)
        return (fact for fact in facts if fact)

    def _pause_s(self) -> float:
        return max(0.05, min(self._looked_s + PERIOD_S - self._clock.monotonic_s(), self._memory.next_due_s()))

    def _trim(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._trimmed_s >= PERIOD_S:
            self._trimmed_s = now_s
            self._hypervisor.trim()

    def _is_known_boot(self) -> bool:
        """Nothing begins before: who says that a boot of this machine is over means everything that is told of it."""
        said = self._view.get(Inventory, self._inventory.key)
        return said is not None and said.record.boot == self._inventory.boot

    def _own(self, world: World) -> Mapping[str, Decision]:
        """What the host has to say of itself, one record at a time, under its own id."""
        strays = self._hypervisor.traces() - set(world.manifests) - set(world.statuses)
        inventory = msgspec.structs.replace(self._inventory, stray_vms=tuple(sorted(strays)))
        for record, reason in ((inventory, described(inventory)), (self._endpoint, "where this host answers")):
            fact = self._view.get(type(record), record.key)
            if fact is None or fact.record != record:
                # One that cannot be read is overwritten as it is: nobody else has to say anything of this host.
                before = () if record.key in self._view.bad else (as_seen(record.key, fact),)
                return {self.host: Decision(verb="say", key=record.key, reason=reason, puts=(record,), requires=before)}
        return {}

    def _learn(self, outcome: Outcome) -> None:
        """Draw the conclusions of a step that a worker has finished."""
        step = outcome.step
        news = self._news.pop(outcome.vm, None)
        if news and self._journal and not outcome.error:
            self._journal.say(news, *self._known_as(outcome.vm))
        if isinstance(step, Act):
            if outcome.error:
                self._note_failure(step, outcome.error)
            else:
                self._memory.succeeded(step)
                self._is_clean |= step.verb == "clean"
        elif outcome.revision:
            self._memory.wrote(outcome.vm, step.key, outcome.revision)
        else:
            if isinstance(outcome.error, Temporary):
                self._view.distrust()  # it may have happened: read again
            self._memory.was_refused(outcome.vm)

    def _note_failure(self, act: Act, error: Error) -> None:
        why = one_line(error.message)  # it may come from a guest's process
        is_news = self._memory.failed(act, error, why)
        log.log(logging.WARNING if is_news else logging.DEBUG, "%s %s: %s", act.verb, act.vm, why)

    def _known_as(self, id: str) -> tuple[str, str]:
        """The key and the name by which people know what has this id: a VM, or this host."""
        if id == self.host:
            return Host.at(id), ""
        manifest = self._view.get(Manifest, Manifest.at(self.host, id))
        return Vm.at(id), manifest.record.name if manifest else ""

    # What the workers do.

    def _commit(self, vm: str, decision: Decision, puts: Mapping[str, bytes]) -> None:
        try:
            revision = self._store.commit(puts, decision.deletes, decision.requires)
        except (Conflict, Temporary) as error:
            failed = "no longer holds" if isinstance(error, Conflict) else "may not have happened"
            log.info("%s %s %s: %s", decision.verb, decision.key, failed, error.message)
            self._outcomes.put(Outcome(vm, decision, error=error))
        else:
            log.info("%s %s: %s", decision.verb, decision.key, decision.reason)
            self._outcomes.put(Outcome(vm, decision, revision=revision))

    def _do(self, act: Act) -> None:
        log.info("%s %s: %s", act.verb, act.vm, act.reason)
        try:
            self._acts.do(act)
        except (Temporary, Invalid, Conflict, NoCapacity) as error:
            self._outcomes.put(Outcome(act.vm, act, error=error))
        else:
            self._outcomes.put(Outcome(act.vm, act))


def with_network(world: World) -> dict[str, Manifest]:
    """The VMs whose ports are to be there: those whose guest is here, and those that shall run, of which this host has said
    so, and may start them. What others have here stays until `unwire` or `erase` takes it away, which may be under way."""

    def shall_run(vm: str, manifest: Manifest) -> bool:
        status = world.statuses.get(vm)
        is_said = status is not None and status.record.phase != "off"
        return manifest.want == "running" and is_said and world.may_start and not world.fence

    return {vm: fact.record for vm, fact in world.manifests.items() if vm in world.guests or shall_run(vm, fact.record)}


def described(inventory: Inventory) -> str:
    strays = f"; left here, though no manifest names it: {', '.join(inventory.stray_vms)}" if inventory.stray_vms else ""
    return f"{inventory.cpus} cores and {inventory.memory_mib} MiB{strays}"
