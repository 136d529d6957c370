"""Phases of a VM: records in, state out."""

import msgspec
import pytest

from ucloud.api.phase import Sight, State, state
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Phase, Placement, Power, Status, Vm

VM = Vm(id="vm-1", name="web", image="image-1", pool="default", disk_mib=64, boots=2, created="c")
PLACEMENT = Placement(vm="vm-1", host="host-1", epoch=3, since="p", reason="most room")
WAITS = Placement(vm="vm-1", host="", epoch=3, since="p", reason="no host has room")


def sight(
    power: Power = "on",
    phase: Phase | None = None,
    boots: int = 2,
    error: str = "",
    alive: bool = True,
    told: int = 7,
    heard: int = 7,
    deleted_at: str = "",
    placement: Placement | None = PLACEMENT,
) -> Sight:
    vm = Fact("vm/vm-1", msgspec.structs.replace(VM, power=power, deleted_at=deleted_at), 7)
    manifest = Manifest(
        host="host-1", vm="vm-1", name="web", epoch=3, boots=2, want="running", cpus=1, memory_mib=1, revisions={"vm": told}
    )
    said = Status(host="host-1", vm="vm-1", epoch=3, boots=boots, phase="off", since="s", error=error, revisions={"vm": heard})
    status = msgspec.structs.replace(said, phase=phase) if phase else None
    if placement is None or not placement.host:
        return Sight(vm, placement, None, None, False, "")
    return Sight(vm, placement, manifest, status, alive, "h1")


@pytest.mark.parametrize(
    ("seen", "phase", "who"),
    [
        (sight(placement=None), "pending", "scheduler"),
        (sight(placement=WAITS), "pending", "scheduler"),
        (sight(placement=WAITS, power="off"), "stopped", None),
        (sight(), "placing", "h1"),
        (sight(phase="running", alive=False), "unknown", "h1"),
        (sight(phase="starting"), "starting", "h1"),
        (sight(phase="running"), "running", None),
        (sight(phase="running", heard=6), "running", None),
        (sight(phase="running", heard=6, error="no such tap"), "running", "h1"),
        (sight(phase="running", power="off"), "stopping", "h1"),
        (sight(phase="running", power="off", told=6), "stopping", "scheduler"),
        (sight(phase="stopping", power="off"), "stopping", "h1"),
        (sight(phase="stopped", power="off"), "stopped", None),
        (sight(phase="off", power="off"), "stopped", None),
        (sight(phase="stopped", power="off", heard=6), "stopped", "h1"),
        (sight(phase="stopped", power="off", heard=6, told=6), "stopped", "scheduler"),
        (sight(phase="off"), "stopped", None),
        (sight(phase="off", boots=1), "starting", "h1"),
        (sight(phase="running", boots=1, told=6), "starting", "scheduler"),
        (sight(phase="stopping", boots=1), "stopping", "h1"),
        (sight(phase="stopped", boots=1), "starting", "h1"),
        (sight(phase="stopped"), "starting", "h1"),
        (sight(phase="stopped", error="no space"), "failed", "h1"),
        (sight(phase="running", deleted_at="d"), "deleting", "h1"),
        (sight(phase="running", deleted_at="d", alive=False), "deleting", "h1"),
        (sight(placement=None, deleted_at="d"), "deleting", "scheduler"),
    ],
)
def test_phase_and_who_must_act(seen: Sight, phase: str, who: str | None) -> None:
    told = state(seen)
    assert (told.phase, told.waiting.who if told.waiting else None) == (phase, who)


def test_reasons() -> None:
    pending = state(sight(placement=WAITS))
    assert pending.reason == "no host has room"
    assert pending.waiting
    assert pending.waiting.what == "a host with room for it: no host has room"
    assert state(sight(phase="running")) == State("running", "most room")
    assert state(sight(phase="off")).reason == "the guest powered itself off"
