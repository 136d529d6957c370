"""What the owner of a VM is told when something else is wanted, and how a deleted VM is forgotten."""

import pytest

from tests.unit.world import NOW, NOW_S, World, host, pool, status, vm
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.vm import Manifest
from ucloud.scheduler.decide import decide


def placed(*more: object) -> World:
    """A cloud in which vm-a has been placed on host-1 and nothing is left to decide."""
    world = World(pool(), *host("host-1"), vm(), *more)
    settle(world)
    return world


def settle(world: World) -> None:
    while decisions := decide(world.facts(), NOW_S):
        world.commit(decisions)


def only(world: World) -> Decision:
    (decision,) = decide(world.facts(), NOW_S)
    return decision


def revision(world: World, key: str) -> int:
    item = world.store.get(key)
    return item.mod_revision if item else 0


def test_nothing_is_told_twice() -> None:
    assert decide(placed().facts(), NOW_S) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"power": "off"}, {"want": "stopped"}),
        ({"power": "off", "hard": True}, {"want": "stopped", "hard": True}),
        ({"boots": 2}, {"want": "running", "boots": 2}),
        ({"boots": 2, "hard": True}, {"boots": 2, "hard": True}),
        ({"name": "b"}, {"name": "b"}),
        ({"deleted_at": NOW}, {"want": "absent", "disks_do": "delete"}),
        ({"deleted_at": NOW, "power": "off"}, {"want": "absent", "disks_do": "delete"}),
    ],
)
def test_the_manifest_follows_the_vm(wanted: dict, told: dict) -> None:
    world = placed()
    before = world.facts().get(Manifest, "manifest/host-1/vm-a")
    world.put(vm(**wanted))
    decision = only(world)
    (manifest,) = decision.puts
    assert (decision.verb, decision.key) == ("tell", "manifest/host-1/vm-a")
    assert {name: getattr(manifest, name) for name in told} == told
    assert (manifest.host, manifest.epoch, manifest.disks) == ("host-1", 1, before.record.disks)
    assert manifest.revisions == {"vm": revision(world, "vm/vm-a"), "pool": revision(world, "pool/local")}
    keys = ("manifest/host-1/vm-a", "vm/vm-a", "placement/vm-a")
    assert set(decision.requires) == {Unchanged(key, revision(world, key)) for key in keys}


def test_labels_too_are_echoed_so_that_whoever_set_them_can_wait() -> None:
    world = placed()
    world.put(vm(labels={"tier": "web"}))
    assert only(world).puts[0].revisions == {"vm": revision(world, "vm/vm-a"), "pool": revision(world, "pool/local")}


def test_it_says_what_it_told() -> None:
    world = placed()
    world.put(vm(power="off", boots=3))
    assert only(world).reason == "its host shall stop it"


def test_a_manifest_that_somebody_removed_is_written_again() -> None:
    world = placed()
    world.delete("manifest/host-1/vm-a")
    decision = only(world)
    assert decision.verb == "tell"
    assert Unchanged("manifest/host-1/vm-a", 0) in decision.requires


def test_without_its_pool_nothing_new_can_be_told() -> None:
    world = placed()
    world.put(vm(power="off"))
    world.delete("pool/local")
    assert decide(world.facts(), NOW_S) == []


def test_a_placed_vm_stays_where_it_is_when_its_host_is_gone() -> None:
    world = placed()
    world.delete("alive/host-1")
    world.put(*host("host-2", 1 << 20))
    assert decide(world.facts(), NOW_S) == []


def test_a_vm_that_never_had_an_owner_is_forgotten_at_once() -> None:
    world = World(pool(), vm(deleted_at=NOW))
    decision = only(world)
    assert (decision.verb, decision.key, decision.puts) == ("forget", "vm/vm-a", ())
    assert decision.deletes == ("vm/vm-a", "use/image/image-1/vm-a", "unique/vm/default/a")
    expected = {Unchanged("vm/vm-a", revision(world, "vm/vm-a")), Unchanged("placement/vm-a", 0)}
    assert set(decision.requires) == expected


def test_a_vm_that_waited_is_forgotten_with_its_placement() -> None:
    world = World(pool(), vm())
    settle(world)
    world.put(vm(deleted_at=NOW))
    decision = only(world)
    assert "placement/vm-a" in decision.deletes
    assert Unchanged("placement/vm-a", revision(world, "placement/vm-a")) in decision.requires


def test_a_deleted_vm_is_not_forgotten_while_its_host_has_a_status_of_it() -> None:
    world = placed(status())
    world.put(vm(deleted_at=NOW))
    world.commit([only(world)])
    assert decide(world.facts(), NOW_S) == []


def test_a_deleted_vm_is_forgotten_when_its_host_has_no_trace_of_it_left() -> None:
    world = placed(status())
    world.put(vm(deleted_at=NOW))
    world.commit([only(world)])
    world.delete("status/host-1/vm/vm-a")
    decision = only(world)
    assert decision.verb == "forget"
    assert decision.reason == "deleted, and no trace of it is left"
    records = {"placement/vm-a", "manifest/host-1/vm-a", "vm/vm-a"}
    assert set(decision.deletes) == records | {"use/image/image-1/vm-a", "unique/vm/default/a"}
    no_trace = Unchanged("status/host-1/vm/vm-a", 0)
    assert set(decision.requires) == {Unchanged(key, revision(world, key)) for key in records} | {no_trace}
    settle(world)
    assert [item.key for item in world.store.list("").items if "vm-a" in item.key] == []


def test_no_status_yet_is_no_proof_while_the_host_may_still_start_it() -> None:
    """The manifest says running: the host's first act may be on its way. It must be told `absent` before."""
    world = placed()
    world.put(vm(deleted_at=NOW))
    assert (only(world).verb, only(world).puts[0].want) == ("tell", "absent")


def test_a_deleted_name_is_free_only_with_the_last_record() -> None:
    world = placed(status())
    world.put(vm(deleted_at=NOW))
    assert only(world).deletes == ()
