"""The next step for each VM on this host. Pure: what was told, what was said, what is there; out come decisions and acts.

Called by the host's loop (`ucloud.host.loop`), which never has two steps of one VM under way. A step that fails is tried
again: nothing here depends on how far an earlier one came, only on what is there now.
"""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.decision import Decision, Requirement, absent, as_seen, unchanged
from ucloud.model.guest import NO_SPACE, Guest
from ucloud.model.host import Fence, Reconciled
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Phase, Status

Verb = Literal["start", "wire", "unwire", "guard", "resume", "power-down", "kill", "erase", "clean"]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do to the world, safe to repeat.

    start: make ports, disks and the guest. wire: make ports and the running guest's interfaces as the manifest says.
    unwire: remove the ports of a VM whose guest is gone. guard: from now on the guest must not outlive the host's lease.
    resume: let a guest go on that stands still for want of space. power-down: ask the guest. kill: end it at once. erase:
    remove disks (if the manifest says so), ports, logs and all other traces of a VM whose guest is gone. clean: end whatever is
    left of any guest of this host, which `vm` names then.
    """

    verb: Verb
    vm: str
    reason: str
    manifest: Manifest | None = None


Step: TypeAlias = Decision | Act


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the host knows of its VMs, by VM id.

    errors: what the last step failed with. held: acts that are not due (again) yet. asked_s: for how long the guest has
    been asked to power down. erased: VMs of which, under their present manifest, everything was removed. wired: VMs
    that have ports here, or parts of them, and the ports' MACs. may_start: this host has its lease. memory_mib: for
    guests; where all VMs told of need more, `manifests`, `statuses` and `guests` are those of all.

    fence: this host was declared dead. reconciled: the last one of which it said that nothing is left running. boot: of this
    machine. at_rest: no act and no commit was under way when the guests were looked at. is_clean: whatever was left of any
    guest was ended under this fence.
    """

    host: str
    manifests: Mapping[str, Fact[Manifest]]
    statuses: Mapping[str, Fact[Status]]
    guests: Mapping[str, Guest]
    errors: Mapping[str, str] = {}
    held: frozenset[tuple[str, Verb]] = frozenset()
    asked_s: Mapping[str, float] = {}
    erased: frozenset[str] = frozenset()
    wired: Mapping[str, frozenset[str]] = {}
    power_down_s: float = 90.0
    may_start: bool = True
    memory_mib: float = math.inf
    fence: Fact[Fence] | None = None
    reconciled: Fact[Reconciled] | None = None
    boot: str = ""
    at_rest: bool = True
    is_clean: bool = False


def decide(world: World, now_s: float) -> dict[str, Step]:
    """A guest runs only where a manifest wants it, never before the status says so, and never under a fence: at most one step
    for each VM, and for the host itself under its own id."""
    if world.fence:
        return reconcile(world, world.fence)
    steps: dict[str, Step] = {}
    no_room = without_room(world)
    for vm in sorted({*world.manifests, *world.statuses, *world.guests}):
        manifest, status, guest = world.manifests.get(vm), world.statuses.get(vm), world.guests.get(vm)
        if manifest is None:
            step = without_manifest(world, vm, status, guest)
        elif manifest.record.want == "absent":
            step = remove(world, manifest, status, guest)
        elif guest and manifest.record.needs_lease and not guest.leased:
            step = Act(verb="guard", vm=vm, reason="one of its disks is in a pool that hosts share")
        elif manifest.record.want == "stopped":
            step = stop(world, manifest, status, guest, now_s)
        else:
            step = run(world, manifest, status, guest, now_s, no_room.get(vm, ""))
        if isinstance(step, Act) and (vm, step.verb) in world.held:
            step = complain(status, world.errors.get(vm, ""))
        if isinstance(step, Decision):
            step = msgspec.structs.replace(step, requires=(*step.requires, absent(keys.fence(world.host))))
        if step:
            steps[vm] = step
    return steps


def without_room(world: World) -> dict[str, str]:
    """VMs that are not started, and why: a host may come back with less memory than it had. Who runs stays; of the others those
    that have run here for longest come first, as far as there is room."""
    told = [fact.record for fact in world.manifests.values()]
    left_mib = world.memory_mib - sum(manifest.memory_mib for manifest in told if manifest.vm in world.guests)
    found = {}
    for manifest in sorted(told, key=lambda manifest: (since(world, manifest.vm), manifest.vm)):
        if manifest.want != "running" or manifest.vm in world.guests or is_off(world, manifest):
            continue
        if manifest.memory_mib <= left_mib:
            left_mib -= manifest.memory_mib
        else:
            has = f"this host has {world.memory_mib:.0f} MiB for guests, of which {max(0.0, left_mib):.0f} are free"
            found[manifest.vm] = f"{has}: it needs {manifest.memory_mib}"
    return found


def since(world: World, vm: str) -> str:
    """Behind all others if nothing was said of it yet."""
    return world.statuses[vm].record.since if vm in world.statuses else "~"


def is_off(world: World, told: Manifest) -> bool:
    """Its guest has powered itself off, and this boot is not begun again."""
    status = world.statuses.get(told.vm)
    if status is None or (status.record.epoch, status.record.boots) != (told.epoch, told.boots):
        return told.powered_off
    return status.record.phase == "off"


def reconcile(world: World, fence: Fact[Fence]) -> dict[str, Step]:
    """This host was declared dead: whatever runs here may run elsewhere, too. Every guest is killed, whatever the manifests
    say, and the ports of each go, as its addresses may be elsewhere; nothing else begins. That nothing runs is said when
    no worker is at anything that began before. The statuses stay as they are until the fence has gone."""
    number, reason = fence.record.number, f"this host was declared dead (fence {fence.record.number})"
    acts = [Act(verb="kill", vm=vm, reason=reason) for vm in world.guests]
    acts += [Act(verb="unwire", vm=vm, reason=reason) for vm in world.wired if vm not in world.guests]
    is_quiet = world.at_rest and not world.guests
    if is_quiet and not world.is_clean:
        acts.append(Act(verb="clean", vm=world.host, reason=reason))
    steps: dict[str, Step] = {act.vm: act for act in acts if (act.vm, act.verb) not in world.held}
    said = Reconciled(host=world.host, number=number, boot=world.boot)
    if is_quiet and world.is_clean and (world.reconciled is None or world.reconciled.record != said):
        reason = f"nothing runs here that was started before fence {number}"
        steps[world.host] = Decision(verb="say", key=said.key, reason=reason, puts=(said,), requires=(unchanged(fence),))
    return steps


def complain(status: Fact[Status] | None, error: str) -> Decision | None:
    """While an act waits to be tried again, the status says what it failed with."""
    if status is None or error in ("", status.record.error):
        return None
    failed = msgspec.structs.replace(status.record, error=error)
    return Decision(verb="say", key=status.key, reason=error, puts=(failed,), requires=(unchanged(status),))


def without_manifest(world: World, vm: str, status: Fact[Status] | None, guest: Guest | None) -> Step | None:
    """Nothing says that this VM belongs here. Its disks stay: only a manifest deletes disks. If this host was declared dead
    since it said anything of the VM, another one has it: what else is here of it goes. Otherwise that is kept and reported:
    somebody may want it back."""
    if guest:
        return Act(verb="kill", vm=vm, reason="no manifest names it here")
    if status is None:
        return None
    has_left = world.reconciled is not None and status.revision < world.reconciled.revision
    if has_left and vm not in world.erased:
        return Act(verb="erase", vm=vm, reason="no manifest names it here")
    requires = (unchanged(status), absent(Manifest.at(world.host, vm)))
    verb, reason = ("leave", "no manifest names it here, and only its disks are left") if has_left else ("clear", "no manifest")
    return Decision(verb=verb, key=status.key, reason=reason, deletes=(status.key,), requires=requires)


def remove(world: World, manifest: Fact[Manifest], status: Fact[Status] | None, guest: Guest | None) -> Step | None:
    """Undo everything; the last act is to delete the status."""
    vm = manifest.record.vm
    if guest:
        return Act(verb="kill", vm=vm, reason="deleted")
    if status is None:  # somebody has taken it away by hand
        return Act(verb="unwire", vm=vm, reason="deleted") if vm in world.wired else None
    if vm not in world.erased:
        return Act(verb="erase", vm=vm, reason="deleted", manifest=manifest.record)
    requires = (unchanged(status), unchanged(manifest))
    return Decision(verb="clear", key=status.key, reason="no trace is left", deletes=(status.key,), requires=requires)


def stop(world: World, manifest: Fact[Manifest], status: Fact[Status] | None, guest: Guest | None, now_s: float) -> Step | None:
    """Whoever is said to be stopped has no ports here: its addresses may be somebody else's soon."""
    if guest is None and manifest.record.vm in world.wired:
        return Act(verb="unwire", vm=manifest.record.vm, reason="it is stopped")
    if guest is None:
        return say(world, manifest, status, "stopped", now_s)
    return end(world, manifest, status, guest, "told to stop", now_s)


def run(
    world: World, manifest: Fact[Manifest], status: Fact[Status] | None, guest: Guest | None, now_s: float, no_room: str
) -> Step | None:
    """A guest runs once for each (epoch, boots), unless it crashed. no_room: why it is not started."""
    told = manifest.record
    wired = world.wired.get(told.vm, frozenset())
    if guest is None and wired and not world.may_start:  # it is about to be elsewhere, if it is not yet
        return Act(verb="unwire", vm=told.vm, reason="this host has lost its lease")
    if guest is None and not wired <= macs_of(told):  # before it is confirmed: their addresses may be somebody else's soon
        return Act(verb="unwire", vm=told.vm, reason="its ports are not as told")
    if guest and (guest.epoch, guest.boots) != (told.epoch, told.boots):
        return end(world, manifest, status, guest, f"told to boot again ({told.boots})", now_s)
    if status is None or (status.record.epoch, status.record.boots) != (told.epoch, told.boots):
        return say(world, manifest, status, "off" if told.powered_off else "starting", now_s)
    phase, crashes = status.record.phase, status.record.crashes
    if phase == "off" or (guest and guest.state == "powered-off"):
        if guest is None and told.vm in world.wired:
            return Act(verb="unwire", vm=told.vm, reason="it powered itself off")
        if said := say(world, manifest, status, "off", now_s, crashes=crashes):
            return said
        return Act(verb="kill", vm=told.vm, reason="it powered itself off") if guest else None
    if guest and not (has_its_ports(guest, told) and wired <= macs_of(told)):
        return Act(verb="wire", vm=told.vm, reason="its ports are not as told", manifest=told)
    if guest:
        error = no_space(world, told, status.record, guest)
        said = say(world, manifest, status, "running", now_s, crashes=crashes, error=error)
        if said or guest.state != "no-space":
            return said
        return Act(verb="resume", vm=told.vm, reason="there may be room now")
    if phase == "running":
        error = "the guest's process ended unexpectedly"
        return say(world, manifest, status, "starting", now_s, crashes=crashes + 1, error=error)
    said = say(world, manifest, status, "starting", now_s, crashes=crashes, error=no_room or status.record.error)
    return said if said or no_room else Act(verb="start", vm=told.vm, reason=f"boot {told.boots}", manifest=told)


def no_space(world: World, told: Manifest, said: Status, guest: Guest) -> str:
    """Why the guest stands still, "" if it does not. That it goes on is believed when it has done so for a while."""
    pools = ", ".join(sorted({disk.pool.name for disk in told.disks}))
    why = f"{NO_SPACE} (pool {pools})"
    is_tried = said.error == why and (told.vm, "resume") in world.held
    return why if guest.state == "no-space" or is_tried else ""


def has_its_ports(guest: Guest, told: Manifest) -> bool:
    return guest.macs == macs_of(told) and not guest.cut


def macs_of(told: Manifest) -> frozenset[str]:
    return frozenset(port.mac for port in told.ports)


def end(
    world: World, manifest: Fact[Manifest], status: Fact[Status] | None, guest: Guest, reason: str, now_s: float
) -> Step | None:
    """End a guest: at once if told so, if it is of an older epoch, or after it was asked for long enough."""
    told, vm = manifest.record, manifest.record.vm
    if guest.state == "powered-off":
        return Act(verb="kill", vm=vm, reason=f"{reason}, and it has powered down")
    if guest.epoch != told.epoch:
        return Act(verb="kill", vm=vm, reason=f"{reason}, and it is of an older epoch")
    if told.hard:
        return Act(verb="kill", vm=vm, reason=f"{reason} at once")
    if status and status.record.phase != "stopping":
        stopping = msgspec.structs.replace(status.record, phase="stopping", since=timestamp(now_s))
        requires = (unchanged(status), unchanged(manifest))
        return Decision(verb="say", key=status.key, reason=f"stopping: {reason}", puts=(stopping,), requires=requires)
    if world.asked_s.get(vm, 0.0) >= world.power_down_s:
        return Act(verb="kill", vm=vm, reason=f"{reason}; it did not power down within {world.power_down_s:g} s")
    return Act(verb="power-down", vm=vm, reason=reason)


def say(
    world: World,
    manifest: Fact[Manifest],
    status: Fact[Status] | None,
    phase: Phase,
    now_s: float,
    crashes: int = 0,
    error: str = "",
) -> Decision | None:
    """Commit the status if it says anything new. It rests on the manifest being unchanged."""
    told, guest = manifest.record, world.guests.get(manifest.record.vm)
    said = Status(
        host=world.host,
        vm=told.vm,
        epoch=told.epoch,
        boots=told.boots,
        phase=phase,
        since=status.record.since if status and status.record.phase == phase else timestamp(now_s),
        crashes=crashes,
        error=world.errors.get(told.vm, error),
        ha=told.ha,
        pools=tuple(sorted({disk.pool.name for disk in told.disks})),
        leased=guest.leased if guest else told.needs_lease,
        revisions=told.revisions,
    )
    if status and status.record == said:
        return None
    before: Requirement = as_seen(said.key, status)
    requires = (before, unchanged(manifest))
    reason = f"{phase}, boot {told.boots}" + (f": {said.error}" if said.error else "")
    return Decision(verb="say", key=said.key, reason=reason, puts=(said,), requires=requires)
