"""The next step of a host for one VM: what was told, what was said, what is there; then what happens."""

import msgspec
import pytest

from tests.unit.host.sights import MANIFEST_REVISION, STATUS_REVISION, act, guest, reconciled, said, step, world
from tests.unit.world import EARLIER, NOW, NOW_S, manifest, status
from ucloud.host.decide import Act, World, decide
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.guest import Guest
from ucloud.model.host import Reconciled
from ucloud.model.network import ManifestPort, NetworkRef
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Status

MANIFEST = Unchanged("manifest/host-1/vm-a", MANIFEST_REVISION)
STATUS = Unchanged("status/host-1/vm/vm-a", STATUS_REVISION)
NO_STATUS = Unchanged("status/host-1/vm/vm-a", 0)
NO_FENCE = Unchanged("fence/host-1", 0)


# To run.


def test_its_first_act_for_a_vm_is_to_say_so() -> None:
    found = step(manifest(revisions={"vm": 5}))
    assert isinstance(found, Decision)
    assert found.puts == (status(phase="starting", since=NOW, revisions={"vm": 5}),)
    assert (found.verb, found.key, found.reason) == ("say", "status/host-1/vm/vm-a", "starting, boot 1")
    assert set(found.requires) == {NO_STATUS, MANIFEST, NO_FENCE}


def test_only_then_a_guest_is_started() -> None:
    assert step(manifest(), status(phase="starting")) == Act(verb="start", vm="vm-a", reason="boot 1", manifest=manifest())


def test_a_guest_that_runs_is_said_to_run_and_then_left_alone() -> None:
    found = step(manifest(), status(phase="starting"), guest())
    assert isinstance(found, Decision)
    assert found.puts == (status(phase="running", since=NOW),)
    assert set(found.requires) == {STATUS, MANIFEST, NO_FENCE}
    assert step(manifest(), status(), guest()) is None


def test_a_running_guest_gets_the_ports_that_it_is_told_before_they_are_confirmed() -> None:
    ref = NetworkRef(id="network-a", name="a", vni=1, ipv6="fd00::/64", mtu=1430)
    port = ManifestPort(network=ref, mac="02:00:00:00:00:01", ipv6="fd00::ff:fe00:1")
    told = msgspec.structs.replace(manifest(), ports=(port,))
    there = msgspec.structs.replace(guest(), macs=frozenset({port.mac}))
    wire = Act(verb="wire", vm="vm-a", reason="its ports are not as told", manifest=told)
    assert step(told, status(), guest()) == wire
    assert step(told, status(), there) is None
    assert act(manifest(), status(), there) == ("wire", "its ports are not as told")
    assert act(manifest(want="stopped", hard=True), status(), there) == ("kill", "told to stop at once")


def test_a_port_is_gone_before_that_is_confirmed() -> None:
    """Its addresses may be somebody else's as soon as it is."""
    before, now = status(revisions={"vm": 5}), manifest(revisions={"vm": 6})
    wired = {"vm-a": frozenset({"02:00:00:00:00:01"})}
    assert act(now, before, guest(), wired=wired) == ("wire", "its ports are not as told"), "its interface was never attached"
    assert act(now, before, None, wired=wired) == ("unwire", "its ports are not as told"), "it crashed"
    booting = status(phase="stopping", boots=0)
    assert act(now, booting, None, wired=wired) == ("unwire", "its ports are not as told"), "it was reset"
    assert act(manifest(want="stopped"), before, None, wired=wired) == ("unwire", "it is stopped")


def test_a_guest_is_left_alone_when_something_else_of_its_vm_changes() -> None:
    assert said(manifest(revisions={"vm": 6}), status(revisions={"vm": 5}), guest()) == status(revisions={"vm": 6})


def test_a_guest_found_without_a_status_gets_one_before_it_is_believed() -> None:
    assert said(manifest(), None, guest()).phase == "starting"


def test_a_status_of_an_older_epoch_or_boot_does_not_count() -> None:
    for old in (status(epoch=1, boots=2, crashes=3), status(epoch=2, boots=1, crashes=3)):
        assert said(manifest(epoch=2, boots=2), old) == status(epoch=2, boots=2, phase="starting", since=NOW)


# A guest without space.


NO_SPACE = "the guest stands still: there is no room for what it writes to its disk (pool local)"


def test_that_a_guest_stands_still_for_want_of_space_is_said_and_then_it_is_let_go_on() -> None:
    stuck = guest("no-space")
    assert said(manifest(), status(), stuck) == status(error=NO_SPACE)
    assert act(manifest(), status(error=NO_SPACE), stuck) == ("resume", "there may be room now")
    assert step(manifest(), status(error=NO_SPACE), stuck, held=frozenset({("vm-a", "resume")})) is None
    assert said(manifest(), status(phase="starting"), stuck) == status(since=NOW, error=NO_SPACE), "it was said to start"


def test_that_it_goes_on_is_believed_when_it_has_done_so_for_a_while() -> None:
    assert step(manifest(), status(error=NO_SPACE), guest(), held=frozenset({("vm-a", "resume")})) is None
    assert said(manifest(), status(error=NO_SPACE), guest()) == status()


# A guest that ends.


def test_a_guest_that_crashed_is_started_again_and_counted() -> None:
    error = "the guest's process ended unexpectedly"
    crashed = said(manifest(), status(crashes=1))
    assert crashed == status(phase="starting", since=NOW, crashes=2, error=error)
    assert act(manifest(), crashed) == ("start", "boot 1")


def test_the_error_of_a_crash_stays_until_the_guest_runs_again() -> None:
    crashed = status(phase="starting", crashes=1, error="the guest's process ended unexpectedly")
    assert said(manifest(), crashed, guest()) == status(since=NOW, crashes=1)


def test_a_guest_that_powered_itself_off_stays_off() -> None:
    off = said(manifest(), status(), guest("powered-off"))
    assert off == status(phase="off", since=NOW)
    assert act(manifest(), off, guest("powered-off")) == ("kill", "it powered itself off")
    assert act(manifest(), off) is None


def test_a_guest_that_powered_itself_off_before_it_was_said_to_run_stays_off_too() -> None:
    assert said(manifest(), status(phase="starting"), guest("powered-off")).phase == "off"


def test_a_vm_that_is_off_still_echoes_what_it_is_told() -> None:
    off = status(phase="off", revisions={"vm": 5})
    assert said(manifest(revisions={"vm": 6}), off) == status(phase="off", revisions={"vm": 6})


def test_a_guest_that_powered_itself_off_at_its_former_host_stays_off() -> None:
    assert said(manifest(powered_off=True)) == status(phase="off", since=NOW)
    assert said(manifest(powered_off=True, epoch=2), status(phase="off")) == status(phase="off", epoch=2)
    assert act(manifest(powered_off=True), status(phase="off")) is None


def test_a_vm_that_is_off_boots_when_boots_rises() -> None:
    assert said(manifest(boots=2), status(phase="off")) == status(phase="starting", boots=2, since=NOW)


def test_a_vm_that_was_stopped_runs_again_when_told_to() -> None:
    assert said(manifest(), status(phase="stopped")).phase == "starting"


# Another boot, another epoch.


def test_a_reboot_asks_the_guest_first() -> None:
    told, before = manifest(boots=2), guest(boots=1)
    stopping = said(told, status(), before)
    assert stopping == status(phase="stopping", since=NOW)
    assert act(told, stopping, before) == ("power-down", "told to boot again (2)")
    assert act(told, stopping, guest("powered-off", boots=1)) == ("kill", "told to boot again (2), and it has powered down")
    assert said(told, stopping) == status(phase="starting", boots=2, since=NOW)


def test_a_reset_does_not_ask() -> None:
    assert act(manifest(boots=2, hard=True), status(), guest(boots=1)) == ("kill", "told to boot again (2) at once")


def test_a_hard_reboot_is_hard_only_once() -> None:
    assert step(manifest(boots=2, hard=True), status(boots=2), guest(boots=2)) is None


def test_a_guest_of_an_older_epoch_is_killed_at_once() -> None:
    assert act(manifest(epoch=2), status(), guest(epoch=1))[0] == "kill"


def test_a_guest_that_does_not_power_down_is_killed_at_the_deadline() -> None:
    told, stopping = manifest(boots=2), status(phase="stopping")
    waited = {"power_down_s": 30.0, "held": frozenset({("vm-a", "power-down")})}
    assert act(told, stopping, guest(), asked_s={"vm-a": 29.0}, **waited) is None
    killed = ("kill", "told to boot again (2); it did not power down within 30 s")
    assert act(told, stopping, guest(), asked_s={"vm-a": 30.0}, **waited) == killed


# To stop.


def test_stop_asks_waits_and_then_says_stopped() -> None:
    told = manifest(want="stopped", revisions={"vm": 6})
    found = step(told, status(), guest())
    assert isinstance(found, Decision)
    assert found.puts == (status(phase="stopping", since=NOW),)
    assert set(found.requires) == {STATUS, MANIFEST, NO_FENCE}
    assert act(told, status(phase="stopping"), guest()) == ("power-down", "told to stop")
    assert act(told, status(phase="stopping"), guest("powered-off")) == ("kill", "told to stop, and it has powered down")
    assert said(told, status(phase="stopping")) == status(phase="stopped", since=NOW, revisions={"vm": 6})
    assert act(told, status(phase="stopped", revisions={"vm": 6})) is None


def test_a_hard_stop_does_not_ask() -> None:
    assert act(manifest(want="stopped", hard=True), status(), guest()) == ("kill", "told to stop at once")


def test_a_vm_that_is_placed_stopped_never_had_a_guest() -> None:
    assert said(manifest(want="stopped")) == status(phase="stopped", since=NOW)


def test_told_to_stop_a_crashed_guest_is_not_started_again() -> None:
    assert said(manifest(want="stopped"), status()).phase == "stopped"


def test_a_stopping_guest_that_shall_run_after_all_just_goes_on() -> None:
    assert said(manifest(), status(phase="stopping"), guest()).phase == "running"


# To remove.


def test_removal_kills_erases_and_last_of_all_clears_the_status() -> None:
    told = manifest(want="absent", disks_do="delete")
    assert act(told, status(), guest()) == ("kill", "deleted")
    assert step(told, status()) == Act(verb="erase", vm="vm-a", reason="deleted", manifest=told)
    cleared = step(told, status(), erased=frozenset({"vm-a"}))
    assert isinstance(cleared, Decision)
    assert (cleared.verb, cleared.puts, cleared.deletes) == ("clear", (), ("status/host-1/vm/vm-a",))
    assert set(cleared.requires) == {STATUS, MANIFEST, NO_FENCE}
    assert step(told) is None


def test_a_vm_deleted_before_the_host_did_anything_needs_nothing_undone() -> None:
    assert step(manifest(want="absent", disks_do="delete")) is None


def test_ports_of_a_deleted_vm_are_removed_though_somebody_has_taken_its_status_away() -> None:
    told, wired = manifest(want="absent", disks_do="delete"), {"vm-a": frozenset({"02:00:00:00:01:0a"})}
    assert act(told, None, guest(), wired=wired) == ("kill", "deleted")
    assert act(told, None, None, wired=wired) == ("unwire", "deleted")


# No manifest.


def test_a_guest_without_a_manifest_is_killed_and_its_disk_kept() -> None:
    assert act(None, status(), guest()) == ("kill", "no manifest names it here")
    assert act(None, None, guest()) == ("kill", "no manifest names it here")


def test_what_is_left_of_a_vm_that_moved_away_goes_but_for_its_disks() -> None:
    moved = {"reconciled": reconciled()}
    assert step(None, status(), **moved) == Act(verb="erase", vm="vm-a", reason="no manifest names it here", manifest=None)
    found = step(None, status(), erased=frozenset({"vm-a"}), **moved)
    assert isinstance(found, Decision)
    assert (found.verb, found.deletes) == ("leave", ("status/host-1/vm/vm-a",))
    assert set(found.requires) == {STATUS, Unchanged("manifest/host-1/vm-a", 0), NO_FENCE}


@pytest.mark.parametrize("before", [None, reconciled(revision=STATUS_REVISION - 1)])
def test_what_is_left_of_a_vm_whose_manifest_vanished_is_kept_and_its_status_goes(before: Fact[Reconciled] | None) -> None:
    """This host was not declared dead since: somebody may want it back."""
    found = step(None, status(), reconciled=before)
    assert isinstance(found, Decision)
    assert (found.verb, found.deletes) == ("clear", ("status/host-1/vm/vm-a",))
    assert set(found.requires) == {STATUS, Unchanged("manifest/host-1/vm-a", 0), NO_FENCE}


def test_no_records_and_no_guests_mean_no_steps() -> None:
    assert decide(world(), NOW_S) == {}


# Failures.


@pytest.mark.parametrize(
    ("verb", "told", "before", "there"),
    [
        ("start", manifest(), status(phase="starting"), None),
        ("kill", manifest(want="stopped", hard=True), status(), guest()),
        ("kill", manifest(want="absent"), status(), guest()),
        ("erase", manifest(want="absent"), status(), None),
        ("power-down", manifest(want="stopped"), status(phase="stopping"), guest()),
    ],
)
def test_an_act_that_failed_waits_and_the_status_says_why(
    verb: str, told: Manifest, before: Status, there: Guest | None
) -> None:
    failed = {"errors": {"vm-a": f"{verb}: the pool is full"}, "held": frozenset({("vm-a", verb)})}
    complaint = said(told, before, there, **failed)
    assert complaint.error == f"{verb}: the pool is full"
    assert (complaint.phase, complaint.since) == (before.phase, EARLIER)
    assert step(told, complaint, there, **failed) is None
    due = act(told, complaint, there, errors=failed["errors"])
    assert due is not None
    assert due[0] == verb


def test_the_error_leaves_the_status_with_the_next_success() -> None:
    failed = status(phase="starting", error="start: the pool is full")
    assert said(manifest(), failed, guest()) == status(since=NOW)
    assert said(manifest(want="stopped"), status(phase="stopping", error="kill: no answer")).error == ""


def test_another_vms_failure_is_not_this_ones() -> None:
    assert said(manifest(), None, errors={"vm-b": "start: the pool is full"}).error == ""


def test_each_vm_gets_its_own_step() -> None:
    told = {name: manifest(name) for name in ("vm-b", "vm-a")}
    many = World(
        host="host-1",
        manifests={name: Fact(record.key, record, 7) for name, record in told.items()},
        statuses={"vm-c": Fact("status/host-1/vm/vm-c", status("vm-c"), 9)},
        guests={"vm-d": Guest(vm="vm-d", epoch=1, boots=1, state="running")},
        reconciled=reconciled(),
        erased=frozenset({"vm-c"}),
    )
    verbs = [(vm, found.verb) for vm, found in decide(many, NOW_S).items()]
    assert verbs == [("vm-a", "say"), ("vm-b", "say"), ("vm-c", "leave"), ("vm-d", "kill")]
