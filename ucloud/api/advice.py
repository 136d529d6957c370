"""What one can do about a VM, told from its records. Pure; part of what `vm explain` says."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from ucloud.api.phase import Sight, State
from ucloud.model.host import Host


class Advice(Struct, frozen=True):
    """Something to do or to know."""

    text: str
    command: Annotated[str, Meta(description="what to type; empty where there is nothing to type")] = ""


def advice(sight: Sight, state: State, wanted_host: Host | None, is_armed: bool = True) -> list[Advice]:
    """wanted_host: the only one on which the VM may run, where there is one. is_armed: silent hosts are declared dead."""
    if sight.placement and sight.placement.lost:
        return [Advice("delete it; its disk is lost, and its name free again then", f"ucloud vm delete {sight.vm.record.name}")]
    if state.phase == "pending":
        return list(_to_pending(sight, wanted_host))
    if sight.fence and sight.alive:
        return [Advice("wait; the host is back, and will be used again in a moment")]
    if sight.placed and not sight.alive:
        return list(_to_silent(sight, state, is_armed))
    if state.phase == "deleting":
        return []
    return list(_to_placed(sight, state))


def _to_pending(sight: Sight, wanted_host: Host | None) -> Iterator[Advice]:
    vm = sight.vm.record
    yield Advice("see what the hosts have, and what of it is used", "ucloud host list")
    if wanted_host and not wanted_host.enabled:
        yield Advice(f"let VMs come to {wanted_host.name}", f"ucloud host enable {wanted_host.name}")
    elif wanted_host:
        yield _bring_back(wanted_host.name)
    else:
        yield Advice("make room by deleting a VM that nobody needs; a stopped one keeps its room", "ucloud vm delete VM")
    if vm.host or vm.spread:
        yield Advice("or delete it, and create it anew without that wish", f"ucloud vm delete {vm.name}")


def _to_silent(sight: Sight, state: State, is_armed: bool) -> Iterator[Advice]:
    vm, host, fence = sight.vm.record, sight.host_name, sight.fence
    disks = [disk.pool for disk in sight.manifest.disks] if sight.manifest else []
    is_shared = all(pool.shared for pool in disks)
    if not is_armed and not fence:
        yield Advice(f"let {host} be declared dead, so that what can run elsewhere does", "ucloud cluster arm")
    yield _bring_back(host)
    if fence and is_shared and any(pool.name not in fence.proofs for pool in disks):
        yield Advice(
            "if its machine is switched off for certain, say so, and VMs go elsewhere",
            f"ucloud host fence {host} --confirm-off",
        )
    if disks and not is_shared and state.phase == "deleting":
        yield Advice("its name is free again once its guest and disk are removed there")
    elif disks and not is_shared:
        yield Advice("its disk is there, so it is started nowhere else; it goes on, or is started again, when the host is back")
    if fence and not is_shared:
        yield Advice(f"if {host} never comes back, give up what only it had", f"ucloud host remove {host} --lost")
    if fence and is_shared and vm.ha == "never":
        yield Advice("the next time, let it be restarted elsewhere", f"ucloud vm set {vm.name} --ha restart")


def _bring_back(host: str) -> Advice:
    return Advice(f"bring {host} back; if it is switched on, look at its daemon and its network", f"ucloud host show {host}")


def _to_placed(sight: Sight, state: State) -> Iterator[Advice]:
    vm, status = sight.vm.record, sight.status
    log = Advice("see what its guest wrote", f"ucloud vm log {vm.name}")
    if state.phase == "stopped":
        yield Advice("start it; it does not start by itself", f"ucloud vm start {vm.name}")
    elif state.phase == "stopping":
        yield Advice("wait; the guest was asked to shut down, and after a while its power is cut")
        if not vm.hard and vm.power == "off":
            yield Advice("cut its power now", f"ucloud vm stop {vm.name} --force")
    elif status and status.error and not status.crashes:
        yield Advice(f"mend on {sight.host_name} what the error says; it is tried again by itself, once a minute at least")
    elif status and status.crashes and state.phase != "running":
        yield Advice("keep it from being started again and again", f"ucloud vm stop {vm.name}")
    yield log
