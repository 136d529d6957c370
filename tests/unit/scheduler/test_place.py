"""Where a new VM goes, and what is said when it goes nowhere."""

import pytest

from tests.unit.world import EARLIER, NOW, NOW_S, World, fence, host, manifest, placement, pool, vm
from ucloud.model.decision import Decision, NotNewer, Unchanged
from ucloud.model.host import Alive
from ucloud.model.image import Pool
from ucloud.model.vm import Disk, Manifest, Placement, PoolRef
from ucloud.scheduler.decide import decide
from ucloud.scheduler.hosts import Policy


def decisions(world: World) -> list[Decision]:
    return decide(world.facts(), NOW_S)


def places(world: World) -> dict[str, str]:
    """VM → the host that it is placed on, or why it waits."""
    puts = [record for decision in decisions(world) for record in decision.puts if isinstance(record, Placement)]
    return {record.vm: record.host or record.reason for record in puts}


def test_a_new_vm_gets_an_owner_and_its_owner_a_manifest() -> None:
    world = World(pool(), *host("host-1"))
    revision = world.put(vm("vm-a", cpus=2, memory_mib=1024))
    (decision,) = decisions(world)
    assert (decision.verb, decision.key) == ("place", "vm/vm-a")
    reason = "placed on 1: of the hosts with room it had the most free memory"
    disk = Disk(name="root", pool=PoolRef(name="local", kind="directory", path="/pool"), image="image-1", size_mib=2048)
    told = Manifest(
        host="host-1",
        vm="vm-a",
        name="a",
        epoch=1,
        boots=1,
        want="running",
        cpus=2,
        memory_mib=1024,
        disks=(disk,),
        revisions={"vm": revision, "pool": world.facts().get(Pool, "pool/local").revision},
    )
    assert decision.reason == reason
    assert decision.puts == (Placement(vm="vm-a", host="host-1", epoch=1, since=NOW, reason=reason), told)
    assert decision.deletes == ()


def test_a_placement_rests_on_everything_it_looked_at() -> None:
    world = World(pool(), *host("host-1"), vm("vm-b"), manifest("vm-b"), placement("vm-b", "host-1"), vm("vm-a"))
    revision = {item.key: item.mod_revision for item in world.store.list("").items}
    decision = next(decision for decision in decisions(world) if decision.verb == "place")
    keys = ("vm/vm-a", "pool/local", "host/host-1", "alive/host-1", "status/host-1/inventory")
    others = {Unchanged("placement/vm-a", 0), NotNewer("manifest/host-1/", world.view.seen("manifest/"))}
    others |= {Unchanged("fence/host-1", 0)}
    assert set(decision.requires) == {Unchanged(key, revision[key]) for key in keys} | others


def test_the_host_with_the_most_free_memory_comes_first() -> None:
    world = World(pool(), *host("host-1", 2048), *host("host-2", 4096), *host("host-3", 3072), vm("vm-a"))
    assert places(world) == {"vm-a": "host-2"}


def test_free_memory_is_what_manifests_leave() -> None:
    taken = manifest("vm-b", "host-2", memory_mib=3000)
    world = World(pool(), *host("host-1", 2048), *host("host-2", 4096), taken, vm("vm-a"))
    assert places(world) == {"vm-a": "host-1"}


def test_a_stopped_or_leaving_vm_keeps_its_memory_until_its_manifest_is_gone() -> None:
    leaving = manifest("vm-b", "host-1", memory_mib=2000, want="absent")
    world = World(pool(), *host("host-1", 2048), leaving, vm("vm-a"))
    assert places(world) == {"vm-a": "no host has 512 MiB free; the most is 48 MiB on 1"}


def test_of_equal_hosts_the_lowest_id_is_taken_and_then_the_other() -> None:
    world = World(pool(), *host("host-2"), *host("host-1"), *(vm(f"vm-{letter}") for letter in "abcd"))
    assert places(world) == {"vm-a": "host-1", "vm-b": "host-2", "vm-c": "host-1", "vm-d": "host-2"}


def test_what_one_pass_has_placed_is_no_longer_free() -> None:
    world = World(pool(), *host("host-1", 1024), *(vm(f"vm-{letter}", memory_mib=400) for letter in "abc"))
    assert places(world) == {
        "vm-a": "host-1",
        "vm-b": "host-1",
        "vm-c": "no host has 400 MiB free; the most is 224 MiB on 1",
    }


def test_a_vm_that_fits_nowhere_holds_up_no_smaller_one() -> None:
    world = World(pool(), *host("host-1", 1024), vm("vm-a", memory_mib=2048), vm("vm-b"))
    assert places(world)["vm-b"] == "host-1"


def test_cores_are_overcommitted_up_to_a_limit() -> None:
    full = manifest("vm-b", cpus=4 * int(Policy().cpu_overcommit) - 2)
    world = World(pool(), *host("host-1", has_cpus=4), full, vm("vm-a", cpus=2), vm("vm-c", cpus=1))
    assert places(world) == {"vm-a": "host-1", "vm-c": "no host has both 512 MiB and 1 cores free"}


def test_a_vm_never_has_more_cores_than_its_host() -> None:
    world = World(pool(), *host("host-1", 8192, has_cpus=2), *host("host-2", 1024, has_cpus=8), vm("vm-a", cpus=4))
    assert places(world) == {"vm-a": "host-2"}


def test_hosts_passed_over_for_their_cores_stay_in_the_running() -> None:
    hosts = [*host("host-1", 8192, has_cpus=2), *host("host-2", 1024, has_cpus=8)]
    world = World(pool(), *hosts, vm("vm-a", cpus=4), vm("vm-b", cpus=1))
    assert places(world) == {"vm-a": "host-2", "vm-b": "host-1"}


@pytest.mark.parametrize(
    ("hosts", "wanted", "reason"),
    [
        ([], vm(), "no host is alive and enabled"),
        (host("host-1", 256), vm(), "no host has 512 MiB free; the most is 256 MiB on 1"),
        (host("host-1", has_cpus=2), vm(cpus=3), "no host has 3 cores; the most is 2 on 1"),
        (
            [*host("host-1", 8192, has_cpus=1), *host("host-2", 512, has_cpus=8)],
            vm(cpus=4, memory_mib=1024),
            "no host has both 1024 MiB and 4 cores free",
        ),
        (host("host-1"), vm(pool="ceph"), "there is no pool ceph"),
        (host("host-1", enabled=False), vm(), "no host is alive and enabled"),
    ],
)
def test_it_says_why_a_vm_fits_nowhere(hosts: list, wanted: object, reason: str) -> None:
    world = World(pool(), *hosts, wanted)
    (decision,) = decisions(world)
    assert (decision.verb, decision.key, decision.reason) == ("wait", "vm/vm-a", reason)
    assert decision.puts == (Placement(vm="vm-a", host="", epoch=0, since=NOW, reason=reason),)
    revision = world.store.get("vm/vm-a").mod_revision
    assert set(decision.requires) == {Unchanged("vm/vm-a", revision), Unchanged("placement/vm-a", 0)}


@pytest.mark.parametrize("missing", [0, 1, 2], ids=["wanted", "alive", "inventory"])
def test_a_host_counts_only_when_it_is_wanted_and_alive_and_has_said_what_it_has(missing: int) -> None:
    known = [record for index, record in enumerate(host("host-1")) if index != missing]
    assert places(World(pool(), *known, vm())) == {"vm-a": "no host is alive and enabled"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"removed_at": NOW}, "is to be removed"),
        (Alive(host="host-1", boot="boot-1", degraded=True), "has a host daemon that does not answer"),
        (fence("host-1", phase="fencing"), "is back, and is made ready"),
        (fence("host-1"), "is back, and is made ready"),
        (b"?", "is back, and is made ready"),
    ],
)
def test_a_host_that_takes_no_new_vms_is_named_with_the_reason(change: object, reason: str) -> None:
    world = World(pool(), *host("host-1", **(change if isinstance(change, dict) else {})), vm(host="host-1"))
    if isinstance(change, bytes):
        world.store.commit({"fence/host-1": change})
    elif not isinstance(change, dict):
        world.put(change)  # type: ignore[arg-type]
    assert places(world) == {"vm-a": f"1, where it shall run, {reason}"}
    world.put(*host("host-2"), vm("vm-b"))
    assert places(world)["vm-b"] == "host-2"


@pytest.mark.parametrize(
    ("agreed", "reason"),
    [
        ({"memory_mib": 400}, "no host has 512 MiB free; the most is 400 MiB on 1"),
        ({"cpus": 1}, "no host has 2 cores; the most is 1 on 1"),
        ({"memory_mib": 100_000, "cpus": 100}, "host-1"),
    ],
)
def test_of_agreed_and_reported_capacity_the_smaller_counts(agreed: dict[str, int], reason: str) -> None:
    assert places(World(pool(), *host("host-1", **agreed), vm(cpus=2))) == {"vm-a": reason}
    too_large = World(pool(), *host("host-1", 256, 1, memory_mib=100_000, cpus=100), vm(cpus=2))
    assert places(too_large) == {"vm-a": "no host has 512 MiB free; the most is 256 MiB on 1"}


def test_a_waiting_vm_is_placed_when_room_comes() -> None:
    world = World(pool(), placement(reason="no host is alive and enabled"), vm(), *host("host-1"))
    (decision,) = decisions(world)
    assert decision.verb == "place"
    assert (decision.puts[0].host, decision.puts[0].epoch, decision.puts[0].since) == ("host-1", 1, NOW)
    revision = world.store.get("placement/vm-a").mod_revision
    assert Unchanged("placement/vm-a", revision) in decision.requires


def test_an_owner_after_others_has_a_higher_epoch() -> None:
    (decision,) = decisions(World(pool(), placement(epoch=7), vm(), *host("host-1")))
    assert [record.epoch for record in decision.puts] == [8, 8]


def test_the_reason_for_waiting_is_written_only_when_it_changes() -> None:
    world = World(pool(), vm(), placement(reason="no host is alive and enabled", epoch=3))
    assert decisions(world) == []
    world.put(*host("host-1", 256))
    (decision,) = decisions(world)
    waits = Placement(vm="vm-a", host="", epoch=3, since=EARLIER, reason="no host has 512 MiB free; the most is 256 MiB on 1")
    assert decision.puts == (waits,)


@pytest.mark.parametrize(
    ("most", "wanted", "is_written"),
    [
        ("256 MiB on 1", 512, False),
        ("129 MiB on 1", 512, False),
        ("383 MiB on 2", 512, False),
        ("128 MiB on 1", 512, True),
        ("384 MiB on 1", 512, True),
        ("256 MiB on 1", 600, True),
    ],
)
def test_a_most_that_is_nearly_right_is_not_written_again(most: str, wanted: int, is_written: bool) -> None:
    """Thousands may wait, and free memory changes with every VM that comes or goes."""
    said = placement(reason=f"no host has 512 MiB free; the most is {most}")
    assert bool(decisions(World(pool(), *host("host-1", 256), vm(memory_mib=wanted), said))) == is_written


def test_a_deleted_vm_is_not_placed() -> None:
    assert places(World(pool(), *host("host-1"), vm(deleted_at=NOW))) == {}


def test_a_vm_that_was_told_off_is_placed_too_as_its_disk_needs_a_home() -> None:
    (decision,) = decisions(World(pool(), *host("host-1"), vm(power="off")))
    assert (decision.puts[0].host, decision.puts[1].want) == ("host-1", "stopped")


# Where the owner of a VM lets it run.


def racks() -> list[object]:
    """host-1 and host-2 in rack a, host-3 in rack b, host-4 without a label."""
    labels = {"host-1": {"rack": "a"}, "host-2": {"rack": "a"}, "host-3": {"rack": "b"}, "host-4": {}}
    return [record for id, of in labels.items() for record in host(id, labels=of)]


def test_a_vm_runs_on_the_host_that_it_names() -> None:
    world = World(pool(), *host("host-1", 4096), *host("host-2", 2048), vm("vm-a", host="host-2"))
    (decision,) = decisions(world)
    assert decision.puts[0].host == "host-2"
    assert decision.reason == "placed on 2, as asked for"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"host": "host-9"}, "host-9, where it shall run, is no host of this cloud"),
        ({"host": "host-1", "memory_mib": 9000}, "no host that it may run on has 9000 MiB free; the most is 4096 MiB on 1"),
        ({"host": "rack=c"}, "no host with rack=c is alive and enabled"),
        ({"host": "rack=b", "cpus": 5}, "no host that it may run on has 5 cores; the most is 4 on 3"),
    ],
)
def test_a_vm_waits_for_the_host_that_it_may_run_on(wanted: dict, reason: str) -> None:
    (decision,) = decisions(World(pool(), *racks(), vm("vm-a", **wanted)))
    assert (decision.verb, decision.reason) == ("wait", reason)


def test_a_disabled_host_is_named_when_a_vm_shall_run_there() -> None:
    world = World(pool(), *host("host-1", enabled=False), vm("vm-a", host="host-1"))
    assert decisions(world)[0].reason == "1, where it shall run, is disabled"


def test_a_label_chooses_among_hosts() -> None:
    world = World(pool(), *racks(), vm("vm-a", host="rack=b"), vm("vm-b", host="rack=a"), vm("vm-c", host="rack=a"))
    assert places(world) == {"vm-a": "host-3", "vm-b": "host-1", "vm-c": "host-2"}


def test_vms_of_a_group_never_share_a_host() -> None:
    world = World(pool(), *host("host-1"), *host("host-2"), *(vm(f"vm-{name}", spread="web") for name in "abc"))
    full = "every host that is alive and enabled has a VM of the group web already"
    assert places(world) == {"vm-a": "host-1", "vm-b": "host-2", "vm-c": full}


def test_vms_of_a_group_never_share_a_rack() -> None:
    """A host without the label is in no rack; a VM placed earlier counts, wherever its host is now."""
    world = World(pool(), *racks(), *(vm(f"vm-{name}", spread="web@rack") for name in "abc"))
    full = "every rack with a host that is alive and enabled has a VM of the group web already"
    assert places(world) == {"vm-a": "host-1", "vm-b": "host-3", "vm-c": full}
    world.commit(decisions(world)[:1])
    world.delete("alive/host-1")
    assert places(world) == {"vm-b": "host-3", "vm-c": full}


def test_groups_do_not_know_each_other() -> None:
    world = World(pool(), *host("host-1"), vm("vm-a", spread="web"), vm("vm-b", spread="db"), vm("vm-c"))
    assert places(world) == {"vm-a": "host-1", "vm-b": "host-1", "vm-c": "host-1"}


def test_a_spread_placement_rests_on_those_of_its_group() -> None:
    """Else an answer that was lost and carried out late could put two of a group into one rack."""
    world = World(pool(), *racks(), vm("vm-a", spread="web@rack"), vm("vm-b", spread="web@rack"))
    first, second = decisions(world)
    seen = world.view.seen("manifest/")
    assert {r for r in first.requires if isinstance(r, NotNewer)} == {
        NotNewer("manifest/host-1/", seen),
        NotNewer("manifest/host-2/", seen),
    }
    assert {r for r in second.requires if isinstance(r, NotNewer)} == {NotNewer("manifest/host-3/", seen)}


def test_a_large_rack_rests_on_all_placements_at_once() -> None:
    """One comparison, as a transaction has room for 128."""
    rack = [record for number in range(60) for record in host(f"host-{number}", labels={"rack": "a"})]
    world = World(pool(), *rack, vm("vm-a", spread="web@rack"))
    (decision,) = decisions(world)
    assert NotNewer("placement/", world.view.seen("placement/")) in decision.requires
    assert len(decision.requires) < 10


def test_what_a_predecessor_did_last_may_not_be_seen_in_order() -> None:
    """Of a VM whose placement or manifest is seen before itself nobody knows the group."""
    for earlier in (placement("vm-z", host="host-1"), manifest("vm-z", host="host-1")):
        world = World(pool(), *racks(), earlier, vm("vm-a", spread="web@rack"), vm("vm-b", host="rack=a"))
        assert places(world) == {"vm-a": "host-3", "vm-b": "host-2" if isinstance(earlier, Manifest) else "host-1"}


def test_cores_may_be_promised_more_or_less_often() -> None:
    world = World(pool(), *host("host-1", has_cpus=2), vm("vm-a", cpus=2), vm("vm-b", cpus=1))
    tight = decide(world.facts(), NOW_S, Policy(cpu_overcommit=1.0))
    assert [(decision.verb, decision.key) for decision in tight] == [("place", "vm/vm-a"), ("wait", "vm/vm-b")]
