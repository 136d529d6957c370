"""A VM that is to be larger: its host is told when it has the room, and not before. A smaller one always fits."""

import pytest

from tests.unit.world import NOW, NOW_S, World, host, pool, vm
from ucloud.model.decision import Decision, NotNewer, Unchanged
from ucloud.model.vm import Manifest, Placement
from ucloud.scheduler.decide import decide

TOLD = "manifest/host-1/vm-a"


def settle(world: World) -> None:
    while decisions := decide(world.facts(), NOW_S):
        world.commit(decisions[:1])


def stopped_on(*records: object, **changes: object) -> World:
    """vm-a, stopped, with a core and 512 MiB, on a host with 4 cores and 1024 MiB."""
    world = World(pool(), *host("host-1", 1024, 4, **changes), vm(power="off"), *records)
    settle(world)
    return world


def decision(world: World) -> Decision:
    (found,) = decide(world.facts(), NOW_S)
    return found


def told(world: World, key: str = TOLD) -> tuple[int, int, int]:
    fact = world.facts().get(Manifest, key)
    assert fact
    return fact.record.cpus, fact.record.memory_mib, fact.record.disks[0].size_mib


def placed(world: World) -> Placement:
    fact = world.facts().get(Placement, "placement/vm-a")
    assert fact
    return fact.record


def test_growth_that_fits_is_told_and_rests_on_the_room_of_the_host() -> None:
    world = stopped_on()
    world.put(vm(power="off", cpus=2, memory_mib=1024, disk_mib=4096))
    found = decision(world)
    revision = {item.key: item.mod_revision for item in world.store.list("").items}
    keys = (TOLD, "vm/vm-a", "placement/vm-a", "host/host-1", "alive/host-1", "status/host-1/inventory")
    others = {NotNewer("manifest/host-1/", world.view.seen("manifest/"))}
    assert set(found.requires) == {Unchanged(key, revision[key]) for key in keys} | others
    assert found.reason == "its host shall stop it; it has 2 cores and 1024 MiB now"
    settle(world)
    assert told(world) == (2, 1024, 4096)


@pytest.mark.parametrize("smaller", [{"memory_mib": 256}, {"disk_mib": 4096}, {"cpus": 1}])
def test_what_takes_no_more_room_rests_on_none(smaller: dict[str, int]) -> None:
    world = stopped_on()
    world.put(vm(power="off", **smaller))
    assert {requirement.key for requirement in decision(world).requires} == {TOLD, "vm/vm-a", "placement/vm-a"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("larger", "lack"),
    [
        ({"memory_mib": 1200}, "1 has 512 MiB free, 688 MiB more are needed"),
        ({"cpus": 5}, "1 has 4 cores, 5 are needed"),
        ({"memory_mib": 256, "cpus": 5}, "1 has 4 cores, 5 are needed"),
    ],
)
def test_growth_that_does_not_fit_waits_and_says_for_what(larger: dict[str, int], lack: str) -> None:
    world = stopped_on()
    before = placed(world)
    world.put(vm(power="off", **larger))
    found = decision(world)
    assert (found.verb, found.key, found.reason) == ("wait", "vm/vm-a", lack)
    facts = {requirement.key for requirement in found.requires if isinstance(requirement, Unchanged)}
    assert facts == {TOLD, "vm/vm-a", "placement/vm-a"}, "it is no longer so once the host was told"
    world.commit([found])
    assert decide(world.facts(), NOW_S) == [], "it is said once"
    assert told(world) == (1, 512, 2048)
    after = placed(world)
    assert (after.waits_for, after.waits_since) == (lack, NOW)
    assert (after.host, after.epoch, after.reason) == (before.host, before.epoch, before.reason)


def waiting() -> World:
    """vm-a wants 1024 MiB, and vm-b takes 512 MiB of it."""
    world = stopped_on(vm("vm-b"))
    world.put(vm(power="off", memory_mib=1024))
    settle(world)
    assert placed(world).waits_for == "1 has 0 MiB free, 512 MiB more are needed"
    return world


def test_it_is_told_as_soon_as_there_is_room() -> None:
    world = waiting()
    world.put(vm("vm-b", memory_mib=256))
    settle(world)
    assert placed(world).waits_for == "1 has 256 MiB free, 512 MiB more are needed"
    world.put(vm("vm-b", deleted_at=NOW))
    settle(world)
    assert told(world) == (1, 1024, 2048)
    assert (placed(world).waits_for, placed(world).waits_since) == ("", "")


def test_started_meanwhile_it_keeps_its_manifest_and_does_not_run_with_less_than_it_was_promised() -> None:
    world = waiting()
    world.put(vm(boots=2, memory_mib=1024))
    assert decide(world.facts(), NOW_S) == []
    fact = world.facts().get(Manifest, TOLD)
    assert fact
    assert fact.record.want == "stopped"


def test_resized_back_it_fits_at_once() -> None:
    world = waiting()
    world.put(vm(power="off", memory_mib=512))
    settle(world)
    assert told(world) == (1, 512, 2048)
    assert placed(world).waits_for == ""


def test_deleted_while_it_waits_it_is_told_to_go_with_the_size_that_it_has() -> None:
    world = waiting()
    world.put(vm(power="off", memory_mib=1024, deleted_at=NOW))
    settle(world)
    assert world.facts().get(Manifest, TOLD) is None, "told absent, and forgotten as no status is there"


def test_what_is_to_be_removed_keeps_what_it_has_until_it_is_gone() -> None:
    world = stopped_on()
    world.put(vm(power="off", memory_mib=128, deleted_at=NOW))
    (manifest,) = decision(world).puts
    assert isinstance(manifest, Manifest)
    assert (manifest.want, manifest.memory_mib) == ("absent", 512)


@pytest.mark.parametrize("change", ["dead", "disabled"])
def test_a_host_that_takes_no_new_vms_lets_those_grow_that_it_has(change: str) -> None:
    world = stopped_on()
    if change == "dead":
        world.delete("alive/host-1")
    else:
        world.put(host("host-1", 1024, 4, enabled=False)[0])
    world.put(vm(power="off", memory_mib=1024))
    settle(world)
    assert told(world) == (1, 1024, 2048)


def test_nothing_is_promised_of_a_host_that_has_not_said_what_it_has() -> None:
    world = stopped_on()
    world.delete("status/host-1/inventory")
    world.put(vm(power="off", memory_mib=1024))
    assert decision(world).reason == "1 has not said what it has, or something about it cannot be read"


def test_what_one_takes_the_next_does_not_get() -> None:
    """Two that grow and one that is new, in one pass, for 512 MiB."""
    world = World(pool(), *host("host-1", 1024, 4), *(vm(id, power="off", memory_mib=256) for id in ("vm-a", "vm-b")))
    settle(world)
    world.put(*(vm(id, power="off", memory_mib=640) for id in ("vm-a", "vm-b")), vm("vm-c", memory_mib=256))
    found = {item.key: item.verb for item in decide(world.facts(), NOW_S)}
    assert found == {TOLD: "tell", "vm/vm-b": "wait", "vm/vm-c": "wait"}


def test_a_manifest_that_somebody_removed_comes_back_only_where_there_is_still_room() -> None:
    world = stopped_on()
    world.delete(TOLD)
    world.put(vm("vm-b", memory_mib=768))
    settle(world)
    assert placed(world).waits_for == ""
    assert told(world) == (1, 512, 2048)
    assert world.facts().get(Manifest, "manifest/host-1/vm-b") is None
