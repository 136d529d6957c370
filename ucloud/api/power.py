"""/v1/vms/…/actions/: start, stop, reboot, reset. What is to happen is written into the VM's record as a state to
reach, so that a repeated request does nothing twice."""

from collections.abc import Callable
from typing import Annotated, Any

from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api import phase
from ucloud.api.describe import describe
from ucloud.api.records import PROJECT, Wish, commit, find, fresh
from ucloud.api.vm import VmAccepted, accepted, change, living, vm_of
from ucloud.base.errors import Conflict
from ucloud.model.record import Fact
from ucloud.model.vm import Vm

routes = Blueprint("power", __name__)

START_FIRST = "the VM is stopped: start it instead"


class VmStop(Struct, frozen=True):
    force: Annotated[bool, Meta(description="do not ask the guest, switch it off")] = False


@routes.post("/v1/vms/<reference>/actions/start")
@describe("Start a VM", answer=VmAccepted, status=202, errors=(Conflict,))
def start_vm(reference: str) -> VmAccepted:
    """Does nothing if it runs."""

    def start(vm: Vm, is_off: bool) -> dict[str, Any]:
        return {} if vm.power == "on" and not is_off else {"power": "on", "boots": vm.boots + 1, "hard": False}

    return _act("start", reference, start)


@routes.post("/v1/vms/<reference>/actions/stop")
@describe("Stop a VM", body=VmStop, answer=VmAccepted, status=202, errors=(Conflict,))
def stop_vm(reference: str, body: VmStop) -> VmAccepted:
    """The guest is asked to shut down, and switched off if it does not in time."""

    def stop(vm: Vm, _: bool) -> dict[str, Any]:
        return {} if vm.power == "off" and (vm.hard or not body.force) else {"power": "off", "hard": body.force}

    return _act("stop", reference, stop)


@routes.post("/v1/vms/<reference>/actions/reboot")
@describe("Reboot a VM", answer=VmAccepted, status=202, errors=(Conflict,))
def reboot_vm(reference: str) -> VmAccepted:
    """The guest is asked to shut down, and started again."""
    return _act("reboot", reference, lambda vm, is_off: _boot_again(vm, is_off, hard=False))


@routes.post("/v1/vms/<reference>/actions/reset")
@describe("Reset a VM", answer=VmAccepted, status=202, errors=(Conflict,))
def reset_vm(reference: str) -> VmAccepted:
    """It is switched off and on, without asking the guest."""
    return _act("reset", reference, lambda vm, is_off: _boot_again(vm, is_off, hard=True))


def _boot_again(vm: Vm, is_off: bool, hard: bool) -> dict[str, Any]:
    if vm.power == "off" or is_off:
        raise Conflict(START_FIRST)
    return {"boots": vm.boots + 1, "hard": hard}


def _act(verb: str, reference: str, wanted: Callable[[Vm, bool], dict[str, Any]]) -> VmAccepted:
    """`wanted(vm, is_off)`: the changes of its record; none where it is so already."""
    id = find("vm", reference, PROJECT)

    def make() -> Wish:
        vm = living(vm_of(id))
        changes = wanted(vm.record, _is_off(vm))
        return change(vm, **changes) if changes else Wish(revision=vm.revision)

    return accepted(commit(verb, id, make))


def _is_off(vm: Fact[Vm]) -> bool:
    """The guest powered itself off, and nobody told it to start since."""
    status = phase.gather(fresh(), vm).status
    return status is not None and status.phase == "off" and status.boots >= vm.record.boots
