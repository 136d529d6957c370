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
from ucloud.base.errors import Conflict, Error, Invalid, NoCapacity, NotYet, Temporary
from ucloud.base.text import one_line
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.driver.pool.contract import Pool
from ucloud.host import wanted
from ucloud.host.decide import Act, Step, Verb, World, decide, has_its_ports
from ucloud.host.executor import Executor
from ucloud.host.network import HostNetwork
from ucloud.host.news import news_of
from ucloud.host.retry import Retry
from ucloud.host.userdata import UserData
from ucloud.loop import MAX_VIEW_AGE_S
from ucloud.model import keys
from ucloud.model.decision import Decision, absent, unchanged
from ucloud.model.event import News
from ucloud.model.guest import Guest
from ucloud.model.host import Endpoint, Fence, Host, Inventory, Reconciled
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, PoolRef, Status, Vm
from ucloud.store.contract import Store
from ucloud.store.journal import Journal
from ucloud.store.view import View

log = logging.getLogger("ucloud.host")

PERIOD_S = 5.0  # between looks at all VMs, which repair what changed without a word
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
FIRST_REFUSED_S = 0.05  # the watch brings what somebody else wrote, as a rule
ASK_AGAIN_S = 10.0  # a guest that still boots does not hear the power button


class Outcome(msgspec.Struct, frozen=True):
    """What became of a step. revision: of a commit that happened; error: why an act failed, or a commit was lost."""

    vm: str
    step: Step
    revision: int = 0
    error: Error | None = None


class HostLoop:
    """`pools` gives the driver of a pool that a manifest names, `cidata` the files for a guest with this user data; `inventory`
    and `endpoint` are what this host says of itself, without the strays, which the loop fills in. may_start: whether this host
    has its lease, asked right before each start, from any thread. beat: called after every look."""

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
    ) -> None:
        self.host = inventory.host
        self._may_start, self._beat = may_start, beat
        self._journal = journal
        self._news: dict[str, News] = {}  # VM → what to tell once its step is done
        self._store, self._view, self._clock = store, view, clock
        self._hypervisor, self._pools, self._network, self._executor = hypervisor, pools, network, executor
        self._user_data, self._cidata = user_data, cidata
        self._inventory, self._endpoint, self._power_down_s = inventory, endpoint, power_down_s
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()  # from the workers; all that follows is the loop's alone
        self._written: dict[str, tuple[str, int]] = {}  # VM → key and revision written, not yet seen again
        self._errors: dict[str, tuple[Verb, str]] = {}  # VM → the act that failed last, and why
        self._retries: dict[tuple[str, Verb], Retry] = {}
        self._refused: dict[str, Retry] = {}  # VM → commits in a row that failed
        self._erased: dict[str, Manifest | None] = {}
        self._fenced, self._is_clean = 0, False  # number of the fence that is there, 0: none; whether nothing is left under it
        self._trimmed_s = clock.monotonic_s()
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
        self._note_retries(now_s)
        self._note_fence()
        everything = now_s - self._looked_s >= PERIOD_S or self._fenced > 0
        world = msgspec.structs.replace(self._look(None if everything else self._due), at_rest=not busy)
        if everything:
            self._network.keep(with_network(world), world.manifests.keys(), self._unreadable(None))
        steps: dict[str, Step] = {**(self._own(world) if everything else {}), **decide(world, self._clock.now_s())}
        self._stepped_s, self._looked_s = now_s, now_s if everything else self._looked_s
        self._due = {vm for vm in steps if vm in busy or not self._seen(vm) or self._is_refused(vm)}
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

    def _note_fence(self) -> None:
        """Whatever failed before it came, or while it was there, is tried again at once."""
        fence = self._view.get(Fence, keys.fence(self.host))
        number = fence.record.number if fence else 0
        if number != self._fenced:
            self._fenced, self._is_clean = number, False
            self._errors.clear()
            self._retries.clear()

    def _note_retries(self, now_s: float) -> None:
        for (vm, verb), retry in self._retries.items():
            if verb == "power-down" or self._stepped_s < retry.due_s <= now_s:
                self._due.add(vm)

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
        unreadable = set() if self._fenced else self._unreadable(vms)
        manifests = {fact.record.vm: fact for fact in self._told(vms) if fact.record.vm not in unreadable}
        statuses = {fact.record.vm: fact for fact in self._said(vms) if fact.record.vm not in unreadable}
        guests = {vm: guest for vm, guest in self._hypervisor.actual(vms).items() if vm not in unreadable}
        now_s = self._clock.monotonic_s()
        known = {*manifests, *statuses, *guests, self.host}
        self._tidy(vms, known, {vm: fact.record for vm, fact in manifests.items()}, guests)
        reconciled = self._view.get(Reconciled, Reconciled.at(self.host, "reconciled"))
        asked = {vm: retry for (vm, verb), retry in self._retries.items() if verb == "power-down"}
        return World(
            host=self.host,
            manifests=manifests,
            statuses=statuses,
            guests=guests,
            errors={vm: f"{verb}: {message}" for vm, (verb, message) in self._errors.items()},
            held=frozenset(key for key, retry in self._retries.items() if retry.due_s > now_s),
            asked_s={vm: now_s - retry.first_s for vm, retry in asked.items()},
            erased=frozenset(
                vm for vm, told in self._erased.items() if told == (manifests[vm].record if vm in manifests else None)
            ),
            wired=self._network.wired,
            power_down_s=self._power_down_s,
            may_start=self._may_start(),
            fence=self._view.get(Fence, keys.fence(self.host)),
            reconciled=reconciled.record if reconciled else None,
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

    def _tidy(self, vms: set[str] | None, known: set[str], told: Mapping[str, Manifest], running: Mapping[str, Guest]) -> None:
        """Forget what was remembered of VMs that are gone, of guests that have ended, and of troubles long over. vms: those
        that were looked at; None: all."""
        now_s = self._clock.monotonic_s()
        self._written = {vm: (key, at) for vm, (key, at) in self._written.items() if self._view.seen(key) < at}
        self._refused = {vm: retry for vm, retry in self._refused.items() if now_s <= retry.due_s + PERIOD_S}
        for vm, (verb, _) in list(self._errors.items()):
            if is_in(vm, vms) and not is_wanted(verb, vm, known, told, running, self._network):
                del self._errors[vm]
        for vm in [vm for vm in self._erased if is_in(vm, vms) and vm not in known]:
            del self._erased[vm]
        for (vm, verb), retry in list(self._retries.items()):
            if not is_in(vm, vms):
                continue
            ended = verb in ("power-down", "kill") and vm not in running
            outdated = retry.manifest is not None and retry.manifest != told.get(vm)
            over = vm in running and now_s > retry.due_s + LONGEST_RETRY_S
            if vm not in known or ended or outdated or over:
                del self._retries[vm, verb]

    def _seen(self, vm: str) -> bool:
        """What this host wrote of the VM has come back: the view is not older than our own word."""
        return vm not in self._written

    def _is_refused(self, vm: str) -> bool:
        return vm in self._refused and self._refused[vm].due_s > self._clock.monotonic_s()

    def _pause_s(self) -> float:
        now_s = self._clock.monotonic_s()
        retries = (*self._retries.values(), *self._refused.values())
        due_s = [retry.due_s - now_s for retry in retries if retry.due_s > now_s]
        return max(0.05, min([self._looked_s + PERIOD_S - now_s, *due_s]))

    def _trim(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._trimmed_s >= PERIOD_S:
            self._trimmed_s = now_s
            self._hypervisor.trim()

    def _own(self, world: World) -> Mapping[str, Decision]:
        """What the host has to say of itself, one record at a time, under its own id."""
        strays = self._hypervisor.traces() - set(world.manifests) - set(world.statuses)
        inventory = msgspec.structs.replace(self._inventory, stray_vms=tuple(sorted(strays)))
        for record, reason in ((inventory, described(inventory)), (self._endpoint, "where this host answers")):
            fact = self._view.get(type(record), record.key)
            if fact is None or fact.record != record:
                # One that cannot be read is overwritten as it is: nobody else has to say anything of this host.
                before = () if record.key in self._view.bad else (unchanged(fact) if fact else absent(record.key),)
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
                self._fail(step, outcome.error)
            else:
                self._succeed(step)
        elif outcome.revision:
            self._written[outcome.vm] = (step.key, outcome.revision)
            self._refused.pop(outcome.vm, None)
        else:
            if isinstance(outcome.error, Temporary):
                self._view.distrust()  # it may have happened: read again
            retry = self._refused.setdefault(outcome.vm, Retry(None))
            retry.note(self._clock.monotonic_s(), min(PERIOD_S, FIRST_REFUSED_S * retry.doubled))

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
            self._act(act)
        except (Temporary, Invalid, Conflict, NoCapacity) as error:
            self._outcomes.put(Outcome(act.vm, act, error=error))
        else:
            self._outcomes.put(Outcome(act.vm, act))

    def _act(self, act: Act) -> None:
        if act.verb == "kill":
            self._hypervisor.kill(act.vm)
        elif act.verb == "power-down":
            self._hypervisor.power_down(act.vm)
        elif act.verb == "start" and act.manifest:
            self._start(act.manifest)
        elif act.verb == "wire" and act.manifest:
            self._wire(act.manifest)
        elif act.verb == "unwire":
            self._network.remove(act.vm)
        elif act.verb == "guard":
            self._hypervisor.guard(act.vm)
        elif act.verb == "erase":
            self._erase(act.vm, act.manifest)
        elif act.verb == "clean":
            self._clean()

    def _start(self, manifest: Manifest) -> None:
        self._check_lease()
        attachments = {}
        for disk in manifest.disks:
            pool = self._pools(disk.pool)
            pool.add_disk(manifest.vm, disk.name, disk.image, disk.size_mib)
            attachments[disk.name] = pool.attachment(manifest.vm, disk.name)
        self._network.add(manifest)
        files = self._cidata(manifest, self._user_data(manifest))
        self._check_lease()  # much may have happened while the disks were made
        self._hypervisor.start(wanted.guest(manifest, attachments, self._network.nics(manifest), files))

    def _check_lease(self) -> None:
        if self._fenced:
            raise NotYet(f"this host was declared dead (fence {self._fenced})")
        if not self._may_start():
            raise NotYet("this host has lost its lease: others may take it for dead")

    def _clean(self) -> None:
        """Also what is not known as a guest any more, in the control groups of all VMs of which there is a trace."""
        for vm in sorted(self._hypervisor.traces()):
            self._hypervisor.kill(vm)

    def _wire(self, manifest: Manifest) -> None:
        """What is taken away is cut off first: a guest may take its time to let go of an interface, or never do. One cut
        though it is wanted is replaced: somebody has deleted its port by hand."""
        self._network.add(manifest)
        guest, nics = self._hypervisor.actual([manifest.vm]).get(manifest.vm), self._network.nics(manifest)
        if guest is None:
            return
        for nic in nics:
            if nic.mac not in guest.macs - guest.cut:
                self._hypervisor.attach(manifest.vm, nic)
        for mac in sorted(guest.macs - {nic.mac for nic in nics}):
            self._hypervisor.detach(manifest.vm, mac)

    def _erase(self, vm: str, manifest: Manifest | None) -> None:
        """Disks only where a manifest says so."""
        if manifest and manifest.disks_do == "delete":
            for disk in manifest.disks:
                self._pools(disk.pool).remove_disk(vm, disk.name)
        self._network.remove(vm)
        self._hypervisor.forget(vm)

    def _fail(self, act: Act, error: Error) -> None:
        why = one_line(error.message)  # it may come from a guest's process
        is_news = self._errors.get(act.vm) != (act.verb, why)
        log.log(logging.WARNING if is_news else logging.DEBUG, "%s %s: %s", act.verb, act.vm, why)
        self._errors[act.vm] = (act.verb, why)
        retry = self._retries.setdefault((act.vm, act.verb), Retry(act.manifest))
        pause_s = FIRST_RETRY_S if isinstance(error, NotYet) else min(LONGEST_RETRY_S, FIRST_RETRY_S * retry.doubled)
        retry.note(self._clock.monotonic_s(), pause_s)

    def _succeed(self, act: Act) -> None:
        """A guest that was started may crash at once: the next start waits a little longer each time it does."""
        self._errors.pop(act.vm, None)
        if act.verb == "erase":
            self._erased[act.vm] = act.manifest
        if act.verb == "clean":
            self._is_clean = True
        if act.verb in ("start", "power-down"):
            retry = self._retries.setdefault((act.vm, act.verb), Retry(act.manifest))
            pause_s = ASK_AGAIN_S if act.verb == "power-down" else min(LONGEST_RETRY_S, retry.doubled - 1)
            retry.note(self._clock.monotonic_s(), pause_s)


def with_network(world: World) -> dict[str, Manifest]:
    """The VMs whose ports are to be there: those whose guest is here, and those that shall run, of which this host has said
    so, and may start them. What others have here stays until `unwire` or `erase` takes it away, which may be under way."""

    def shall_run(vm: str, manifest: Manifest) -> bool:
        status = world.statuses.get(vm)
        is_said = status is not None and status.record.phase != "off"
        return manifest.want == "running" and is_said and world.may_start and not world.fence

    return {vm: fact.record for vm, fact in world.manifests.items() if vm in world.guests or shall_run(vm, fact.record)}


def is_in(vm: str, vms: set[str] | None) -> bool:
    return vms is None or vm in vms


def is_wanted(
    verb: Verb, vm: str, known: set[str], told: Mapping[str, Manifest], running: Mapping[str, Guest], network: HostNetwork
) -> bool:
    """Whether this act still has something to bring about. A failed one may have (its answer was lost), or be called off."""
    if verb in ("start", "wire"):
        is_on = vm in told and told[vm].want == "running"
        guest = running.get(vm)
        if guest is None:
            return is_on and verb == "start"
        return is_on and verb == "wire" and not has_its_ports(guest, told[vm])
    return vm in {"unwire": network.wired, "erase": known}.get(verb, running)


def described(inventory: Inventory) -> str:
    strays = f"; left here, though no manifest names it: {', '.join(inventory.stray_vms)}" if inventory.stray_vms else ""
    return f"{inventory.cpus} cores and {inventory.memory_mib} MiB{strays}"
