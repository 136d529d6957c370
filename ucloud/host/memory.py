"""What the host's loop remembers from one look to the next: what failed and when it is due again, what it has written, what it
has erased. All of it may be lost with the daemon: then something is tried once more, or sooner. Used by the loop alone.
"""

from collections.abc import Callable, Iterable, Mapping

from ucloud.base.clock import Clock
from ucloud.base.errors import Error, NotYet
from ucloud.host.decide import Act, Verb, has_its_ports
from ucloud.model.guest import Guest
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
FIRST_REFUSED_S, LONGEST_REFUSED_S = 0.05, 5.0  # the watch brings what somebody else wrote, as a rule
ASK_AGAIN_S = 10.0  # a guest that still boots does not hear the power button; one that was resumed may find no room again


class Retry:
    """When to try something again that failed or that takes a while; times are of the monotonic clock. manifest: the one
    it was tried for; another one is tried at once."""

    def __init__(self, manifest: Manifest | None) -> None:
        self.manifest = manifest
        self.times = 0
        self.first_s = self.due_s = 0.0

    def note(self, now_s: float, pause_s: float) -> None:
        self.first_s = self.first_s if self.times else now_s
        self.times += 1
        self.due_s = now_s + pause_s

    @property
    def doubled(self) -> float:
        """1, 2, 4, … with each time, until it is more than anybody waits for."""
        return 2.0 ** min(self.times, 16)


class Memory:
    """VMs by their id; the host itself by its own. ports_of: the VMs that have something of the network here."""

    def __init__(self, clock: Clock, ports_of: Callable[[], Mapping[str, object]]) -> None:
        self._clock, self._ports_of = clock, ports_of
        self._errors: dict[str, tuple[Verb, str]] = {}  # the act that failed last, and why
        self._retries: dict[tuple[str, Verb], Retry] = {}
        self._refused: dict[str, Retry] = {}  # commits in a row that failed
        self._erased: dict[str, Manifest | None] = {}  # what its manifest was then
        self._written: dict[str, tuple[str, int]] = {}  # key and revision, not yet seen again

    def failed(self, act: Act, error: Error, why: str) -> bool:
        """Whether it is news. Who was told that it is a matter of moments asks again every second."""
        is_news = self._errors.get(act.vm) != (act.verb, why)
        self._errors[act.vm] = (act.verb, why)
        retry = self._retries.setdefault((act.vm, act.verb), Retry(act.manifest))
        pause_s = FIRST_RETRY_S if isinstance(error, NotYet) else min(LONGEST_RETRY_S, FIRST_RETRY_S * retry.doubled)
        retry.note(self._clock.monotonic_s(), pause_s)
        return is_news

    def succeeded(self, act: Act) -> None:
        """A guest that was started may crash at once: the next start waits a little longer each time it does."""
        self._errors.pop(act.vm, None)
        if act.verb == "erase":
            self._erased[act.vm] = act.manifest
        if act.verb in ("start", "resume", "power-down"):
            retry = self._retries.setdefault((act.vm, act.verb), Retry(act.manifest))
            pause_s = ASK_AGAIN_S if act.verb != "start" else min(LONGEST_RETRY_S, retry.doubled - 1)
            retry.note(self._clock.monotonic_s(), pause_s)

    def wrote(self, vm: str, key: str, revision: int) -> None:
        self._written[vm] = (key, revision)
        self._refused.pop(vm, None)

    def was_refused(self, vm: str) -> None:
        retry = self._refused.setdefault(vm, Retry(None))
        retry.note(self._clock.monotonic_s(), min(LONGEST_REFUSED_S, FIRST_REFUSED_S * retry.doubled))

    def forget_failures(self) -> None:
        """All are due at once."""
        self._errors.clear()
        self._retries.clear()

    def tidy(self, vms: set[str] | None, known: set[str], told: Mapping[str, Manifest], running: Mapping[str, Guest]) -> None:
        """Forget what was remembered of VMs that are gone, of guests that have ended, and of troubles long over. vms: those
        that were looked at; None: all."""
        now_s = self._clock.monotonic_s()
        self._refused = {vm: retry for vm, retry in self._refused.items() if now_s <= retry.due_s + LONGEST_REFUSED_S}
        for vm, (verb, _) in list(self._errors.items()):
            if is_in(vm, vms) and not is_wanted(verb, vm, known, told, running, self._ports_of()):
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

    def has_come_back(self, seen: Callable[[str], int]) -> None:
        """Of what was written, all that the view has seen: seen(key), the revision up to which it knows."""
        self._written = {vm: (key, at) for vm, (key, at) in self._written.items() if seen(key) < at}

    def must_wait(self, vm: str) -> bool:
        """The view is older than our own word, or a commit was refused just now."""
        refused = self._refused.get(vm)
        return vm in self._written or (refused is not None and refused.due_s > self._clock.monotonic_s())

    def errors(self) -> dict[str, str]:
        return {vm: f"{verb}: {message}" for vm, (verb, message) in self._errors.items()}

    def held(self) -> frozenset[tuple[str, Verb]]:
        now_s = self._clock.monotonic_s()
        return frozenset(key for key, retry in self._retries.items() if retry.due_s > now_s)

    def asked_s(self) -> dict[str, float]:
        """For how long each guest has been asked to power down."""
        now_s = self._clock.monotonic_s()
        return {vm: now_s - retry.first_s for (vm, verb), retry in self._retries.items() if verb == "power-down"}

    def erased(self, manifests: Mapping[str, Fact[Manifest]]) -> frozenset[str]:
        """Under the manifest that the VM has now, or under none."""
        told = {vm: fact.record for vm, fact in manifests.items()}
        return frozenset(vm for vm, manifest in self._erased.items() if manifest == told.get(vm))

    def due(self, since_s: float) -> Iterable[str]:
        """VMs of which an act has become due since then, or whose guest is being asked to power down."""
        now_s = self._clock.monotonic_s()
        return [vm for (vm, verb), retry in self._retries.items() if verb == "power-down" or since_s < retry.due_s <= now_s]

    def next_due_s(self) -> float:
        """In how many seconds the next thing is; infinite: there is none."""
        now_s = self._clock.monotonic_s()
        retries = (*self._retries.values(), *self._refused.values())
        return min((retry.due_s - now_s for retry in retries if retry.due_s > now_s), default=float("inf"))


def is_in(vm: str, vms: set[str] | None) -> bool:
    return vms is None or vm in vms


def is_wanted(
    verb: Verb,
    vm: str,
    known: set[str],
    told: Mapping[str, Manifest],
    running: Mapping[str, Guest],
    ports_of: Mapping[str, object],
) -> bool:
    """Whether this act still has something to bring about. A failed one may have (its answer was lost), or be called off."""
    if verb in ("start", "wire"):
        is_on = vm in told and told[vm].want == "running"
        guest = running.get(vm)
        if guest is None:
            return is_on and verb == "start"
        return is_on and verb == "wire" and not has_its_ports(guest, told[vm])
    if verb == "resume":
        return vm in running and running[vm].state == "no-space"
    return vm in {"unwire": ports_of, "erase": known}.get(verb, running)
