"""Whatever a host is told and whatever happens to it: in the end its guests are exactly what its manifests want.

A story is a list of events: (the name of a method of `Story`, its arguments).
"""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.machine import Machine
from tests.unit.world import manifest
from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor.fake import Trace
from ucloud.model.guest import Guest
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Status

VMS = ["vm-a", "vm-b"]


class Story:
    """What happens to one host."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.crashes: Counter[str] = Counter()
        self.lost: set[str] = set()  # VMs whose manifest somebody took away by hand

    def tell(self, vm: str, want: str, epochs: int, boots: int, hard: bool) -> None:
        """As the scheduler does: numbers only rise, and what is to be absent is told nothing else any more."""
        told = self.told(vm)
        if told and told.want == "absent":
            return
        epoch, boot = (told.epoch, told.boots) if told else (1, 1)
        disks = "delete" if want == "absent" else "keep"
        self.machine.put(manifest(vm, epoch=epoch + epochs, boots=boot + boots, want=want, hard=hard, disks_do=disks))

    def lose(self, vm: str) -> None:
        self.lost.add(vm)
        self.machine.store.commit(deletes=[f"manifest/host-1/{vm}"])

    def crash(self, vm: str) -> None:
        self.crashes[vm] += 1
        self.machine.hypervisor.crash(vm)

    def power_off(self, vm: str) -> None:
        self.machine.hypervisor.power_off(vm)

    def deafen(self, vm: str) -> None:
        self.machine.hypervisor.deaf.add(vm)

    def leave_behind(self, vm: str, epoch: int, boots: int) -> None:
        """A guest that nobody here started."""
        self.machine.guests.setdefault(vm, Trace(Guest(vm=vm, epoch=epoch, boots=boots, state="running")))

    def restart(self) -> None:
        self.machine.daemon()

    def fail(self, driver: str, verb: str, after: bool) -> None:
        getattr(self.machine, driver).fail_next(verb, after=after)

    def look(self, times: int) -> None:
        for _ in range(times):
            try:
                self.machine.loop.step()
            except Temporary:
                continue

    def wait(self, seconds: float) -> None:
        self.machine.clock.pass_s(seconds)

    def settle(self) -> None:
        """Long enough for every retry and every deadline."""
        for _ in range(6):
            self.look(10)
            self.wait(61.0)

    def told(self, vm: str) -> Manifest | None:
        item = self.machine.store.get(f"manifest/host-1/{vm}")
        return decode(Manifest, item.value)[0] if item else None

    def said(self, vm: str) -> Status | None:
        item = self.machine.store.get(f"status/host-1/vm/{vm}")
        return decode(Status, item.value)[0] if item else None


def event(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


vms, numbers = st.sampled_from(VMS), st.integers(0, 1)
verbs = [("hypervisor", verb) for verb in ("actual", "start", "power_down", "kill", "forget")]
verbs += [("pool", "add_disk"), ("pool", "remove_disk")]
looks = event("look", st.sampled_from([1, 1, 2, 6]))
tells = event("tell", vms, st.sampled_from(["running", "running", "stopped", "absent"]), numbers, numbers, st.booleans())
events = st.one_of(
    looks,
    tells,
    event("lose", vms),
    event("crash", vms),
    event("power_off", vms),
    event("deafen", vms),
    event("leave_behind", vms, st.integers(1, 2), st.integers(1, 2)),
    event("restart"),
    event("wait", st.sampled_from([1.0, 10.0, 100.0])),
    st.builds(lambda verb, after: ("fail", *verb, after), st.sampled_from(verbs), st.booleans()),
)
stories = st.lists(st.one_of(looks, tells, events), max_size=50)


def play(events: list[tuple[Any, ...]]) -> Story:
    story = Story()
    for name, *arguments in events:
        getattr(story, name)(*arguments)
    story.settle()
    return story


@given(stories)
@settings(max_examples=300, deadline=None)
def test_in_the_end_the_guests_are_what_the_manifests_want(events: list[tuple[Any, ...]]) -> None:
    story = play(events)
    for vm in VMS:
        check(story, vm)
    before = (story.machine.store.list("").revision, dict(story.machine.guests))
    story.settle()
    assert (story.machine.store.list("").revision, dict(story.machine.guests)) == before, "and there it stays"


def check(story: Story, vm: str) -> None:
    told, said, guest = story.told(vm), story.said(vm), story.machine.hypervisor.actual().get(vm)
    has_disk = (vm, "root") in set(story.machine.pool.disks())
    if told is None or told.want == "absent":
        assert (said, guest) == (None, None)
        assert vm in story.lost or not has_disk
    elif told.want == "stopped":
        assert said
        assert (said.phase, said.boots, said.error, guest) == ("stopped", told.boots, "", None)
    else:
        assert said
        assert (said.epoch, said.boots, said.error) == (told.epoch, told.boots, "")
        assert said.phase in ("off", "running")
        running = Guest(vm=vm, epoch=told.epoch, boots=told.boots, state="running")
        assert guest == (running if said.phase == "running" else None)


@given(stories)
@settings(max_examples=300, deadline=None)
def test_a_guest_boots_once_for_each_boot_it_was_told_and_for_each_crash(events: list[tuple[Any, ...]]) -> None:
    """Counted from the line that each guest writes. Stopped and told to run again is another boot of the same number."""
    story = play([event for event in events if event[:1] != ("tell",) or event[2] != "stopped"])
    for vm, trace in story.machine.guests.items():
        lines = trace.log.splitlines()
        assert len(lines) <= len(set(lines)) + story.crashes[vm] + (vm in story.lost) * len(lines)
