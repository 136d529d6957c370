"""Which silent host is declared dead, when its pools are safe, and when it is one of us again."""

import pytest
from msgspec.structs import replace

from tests.unit.world import EARLIER, NOW_S, World, fence, host, manifest, placement, pool, status
from ucloud.base.errors import Conflict
from ucloud.hostmanager.decide import (
    CAME_BACK,
    LEASE_ENDED,
    NO_FENCE,
    POWERED_OFF,
    Outcome,
    are_too_many,
    commands,
    decide,
)
from ucloud.hostmanager.decide import World as Look
from ucloud.model import keys
from ucloud.model.decision import Decision
from ucloud.model.host import Alive, Endpoint, Failover, Fence, Hold, Host, Inventory, Reconciled
from ucloud.model.secret import Secret
from ucloud.model.vm import Disk, PoolRef

SAME_KERNEL = pool("shared", shared=True, fence="same-kernel")
SILENT = frozenset({"host-1"})


def living(id: str, boot: str = "boot-1", **changes: object) -> tuple[Host, Alive, Inventory]:
    wanted, alive, has = host(id, **changes)  # type: ignore[arg-type]
    return wanted, alive, replace(has, boot=boot)


def silent(id: str = "host-1", **changes: object) -> tuple[Host, Inventory]:
    wanted, _, has = living(id, **changes)  # type: ignore[arg-type]
    return wanted, has


def on(pool: str, vm: str = "vm-a") -> Disk:
    return Disk(name="root", pool=PoolRef(name=pool, kind="directory", path="/pool"), image="image-1", size_mib=2048)


def look(world: World, **known: object) -> list[Decision]:
    return decide(Look(facts=world.facts(), **{"silent": SILENT, **known}), NOW_S)  # type: ignore[arg-type]


def fence_of(world: World, id: str = "host-1") -> Fence | None:
    found = world.facts().get(Fence, keys.fence(id))
    return found.record if found else None


@pytest.fixture
def world() -> World:
    """host-1 is silent, host-2 lives; host-1 had a VM in a shared pool."""
    return World(SAME_KERNEL, *silent(), *living("host-2"), manifest(disks=(on("shared"),)), status(pools=("shared",)))


def test_a_silent_host_is_declared_dead_and_its_lease_is_the_proof(world: World) -> None:
    [declared] = look(world)
    assert declared.verb == "declare"
    assert declared.reason == f"fence 1: its lease ran out; pool shared: {LEASE_ENDED}"
    world.commit([declared])
    assert fence_of(world) == fence(
        since="2027-01-15T08:00:00.000Z", reason="its lease ran out", proofs={"shared": LEASE_ENDED}
    )
    assert look(world) == []


def test_one_that_is_heard_again_meanwhile_is_not(world: World) -> None:
    decisions = look(world)
    world.put(living("host-1")[1])
    with pytest.raises(Conflict):
        world.commit(decisions)


def test_a_disarm_that_comes_meanwhile_is_heeded(world: World) -> None:
    decisions = look(world)
    world.put(Failover(armed=False, since=EARLIER))
    with pytest.raises(Conflict):
        world.commit(decisions)


def test_a_host_that_has_never_lived_is_left_alone(world: World) -> None:
    world.put(living("host-3")[0])
    assert look(world, silent={"host-3"}) == []


def test_a_host_that_this_process_has_not_seen_silent_is_left_alone(world: World) -> None:
    assert look(world, silent=frozenset()) == []


def test_the_number_rises_with_what_the_host_has_said(world: World) -> None:
    world.put(Reconciled(host="host-1", number=7, boot="boot-0"))
    world.commit(look(world))
    assert fence_of(world).number == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["fence/host-1", "alive/host-1", "status/host-1/reconciled"])
def test_a_host_of_which_that_cannot_be_read_is_left_alone(world: World, key: str) -> None:
    world.store.commit({key: b"{"})
    assert look(world) == []


def test_a_host_whose_inventory_cannot_be_read_is_declared_dead_all_the_same(world: World) -> None:
    world.store.commit({Inventory.at("host-1", "inventory"): b"{"})
    world.commit(look(world))
    assert fence_of(world)


def test_a_proof_rests_on_the_pool_for_which_it_is_one(world: World) -> None:
    decisions = look(world)
    world.put(replace(SAME_KERNEL, fence="command"))
    with pytest.raises(Conflict):
        world.commit(decisions)


def test_the_boot_that_is_meant_is_the_last_one(world: World) -> None:
    decisions = look(world)
    world.put(living("host-1", boot="boot-2")[2])
    with pytest.raises(Conflict):
        world.commit(decisions)


# Why not.


def held(world: World, **known: object) -> str:
    """The reason, which is said once."""
    [said] = look(world, **known)
    assert said.verb == "hold"
    world.commit([said])
    assert look(world, **known) == []
    record = world.facts().get(Hold, Hold.at("hold"))
    assert record
    assert record.record.hosts == ("host-1",)
    return record.record.reason


def test_a_disarmed_cluster_holds_until_it_is_armed(world: World) -> None:
    world.put(Failover(armed=False, since=EARLIER, reason="moving racks"))
    assert held(world) == "the cluster is disarmed: moving racks; ucloud cluster arm ends that"
    world.put(Failover(since=EARLIER))
    assert [decision.verb for decision in look(world)] == ["declare", "go on"]


def test_who_cannot_read_whether_the_cluster_is_armed_declares_nobody_dead(world: World) -> None:
    world.store.commit({Failover.at("failover"): b"{"})
    assert "whether the cluster is armed cannot be read" in held(world)


def test_an_unreadable_word_about_what_is_held_holds_nothing_up(world: World) -> None:
    world.store.commit({Hold.at("hold"): b"{"})
    assert look(world, trust_s=1.0) == []
    assert [decision.verb for decision in look(world)] == ["declare"]


@pytest.mark.parametrize("gone", ["alive", "degraded", "enabled", "fenced", "removed"])
def test_without_a_host_to_go_to_nobody_is_declared_dead(world: World, gone: str) -> None:
    wanted, alive, _ = living("host-2")
    if gone == "alive":
        world.delete(alive.key)
    elif gone == "degraded":
        world.put(replace(alive, degraded=True))
    elif gone == "enabled":
        world.put(replace(wanted, enabled=False))
    elif gone == "removed":
        world.put(replace(wanted, removed_at=EARLIER))
    else:
        world.put(fence("host-2", proofs={"shared": "so"}))
    assert "no other host is alive and enabled" in held(world)


@pytest.mark.parametrize("left", ["nothing", "a VM on a pool of its own"])
def test_what_has_nothing_at_stake_is_held_without_a_word(world: World, left: str) -> None:
    world.delete(manifest().key, status().key)
    if left != "nothing":
        world.put(pool("local"), manifest("vm-b", disks=(on("local"),)))
    assert look(world, trust_s=1.0) == []


def test_etcds_silence_is_not_a_hosts(world: World) -> None:
    assert "etcd lacked its quorum" in held(world, trust_s=3.0)


def test_too_many_at_once_are_held_for_a_while_and_then_go_one_by_one(world: World) -> None:
    world.put(*silent("host-3"))
    both = {"host-1", "host-3"}
    assert "waiting 60 s" in held(world, silent=both, calm_s=59.0)
    assert "one is declared dead every 10 s" in look(world, silent=both, calm_s=60.0, paced_s=9.0)[0].reason
    decisions = look(world, silent=both, calm_s=60.0, paced_s=10.0)
    assert [(decision.verb, decision.key) for decision in decisions] == [("declare", "fence/host-1"), ("go on", "cluster/hold")]
    world.put(manifest("vm-c", "host-3", disks=(on("shared", "vm-c"),)))
    declared, said = look(world, silent=both, calm_s=60.0, paced_s=10.0)
    assert (declared.key, said.puts[0].hosts) == ("fence/host-1", ("host-3",)), "what is held stays held"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("gone", "of", "too_many"),
    [
        (1, 1, False),
        (2, 2, False),
        (2, 3, False),
        (3, 3, True),
        (3, 9, True),
        (4, 16, False),
        (5, 16, True),
        (250, 1000, False),
    ],
)
def test_how_many_are_too_many(gone: int, of: int, too_many: bool) -> None:
    assert are_too_many(gone, of) is too_many


# Pools.


def test_a_pool_of_its_own_is_no_proof_and_holds_up_nothing(world: World) -> None:
    world.put(pool("local"), manifest("vm-b", disks=(on("local"),)))
    world.commit(look(world))
    found = fence_of(world)
    assert found
    assert (found.phase, [*found.proofs], [*found.errors]) == ("fenced", ["shared"], ["local"])


def test_a_pool_without_a_fence_needs_the_operators_word_for_this_very_boot(world: World) -> None:
    world.put(replace(SAME_KERNEL, fence="none"))
    world.commit(look(world))
    assert fence_of(world).errors == {"shared": NO_FENCE}  # type: ignore[union-attr]
    wanted = silent()[0]
    world.put(replace(wanted, off="boot-0"))
    assert look(world) == []
    world.put(replace(wanted, off="boot-1"))
    world.commit(look(world))
    found = fence_of(world)
    assert found
    assert (found.proofs, found.errors) == ({"shared": POWERED_OFF}, {})


@pytest.fixture
def nfs(world: World) -> World:
    world.put(replace(SAME_KERNEL, fence="command"), Endpoint(host="host-1", url="http://[fd00::1]:80", token=Secret("t")))
    world.commit(look(world))
    return world


def test_a_fence_command_is_run_until_it_succeeds(nfs: World) -> None:
    found = fence_of(nfs)
    assert found
    assert (found.phase, found.errors) == ("fencing", {"shared": "its fence command runs"})
    command = ("host-1", 1, "shared")
    assert list(commands(nfs.facts())) == [(command, silent()[0], "http://[fd00::1]:80")]
    nfs.commit(look(nfs, outcomes={command: Outcome(error="exit 1")}))
    found = fence_of(nfs)
    assert found
    assert (found.phase, found.proofs, found.errors) == ("fenced", {}, {"shared": "exit 1"})
    assert len(list(commands(nfs.facts()))) == 1
    nfs.commit(look(nfs, outcomes={command: Outcome(proof="expired")}))
    found = fence_of(nfs)
    assert found
    assert (found.proofs, found.errors) == ({"shared": "expired"}, {})
    assert list(commands(nfs.facts())) == []
    assert look(nfs) == [], "a proof stays, though a new leader knows of no outcome"


def test_while_the_cluster_is_disarmed_no_command_is_run(nfs: World) -> None:
    nfs.put(Failover(armed=False, since=EARLIER))
    assert list(commands(nfs.facts())) == []
    nfs.put(Failover(since=EARLIER))
    assert len(list(commands(nfs.facts()))) == 1


def test_a_new_leader_keeps_what_the_last_one_said_of_a_command(nfs: World) -> None:
    nfs.commit(look(nfs, outcomes={("host-1", 1, "shared"): Outcome(error="exit 1")}))
    assert look(nfs) == []


def test_a_host_is_not_used_again_while_a_command_may_still_cut_it_off(nfs: World) -> None:
    nfs.put(living("host-1")[1], Reconciled(host="host-1", number=1, boot="boot-1"))
    nfs.commit(look(nfs, silent=frozenset()))
    nfs.put(manifest(disks=(on("shared"),), epoch=2))
    assert look(nfs, silent=frozenset(), running={("host-1", 1, "shared")}) == []
    assert look(nfs, silent=frozenset(), others_s=1.0) == []
    assert [decision.verb for decision in look(nfs, silent=frozenset(), running={("host-2", 1, "shared")})] == ["lift"]


def test_the_proof_of_another_fence_is_none(nfs: World) -> None:
    assert look(nfs, outcomes={("host-1", 0, "shared"): Outcome(proof="expired")}) == []


# Back again.


@pytest.fixture
def fenced(world: World) -> World:
    world.commit(look(world))
    return world


def back(world: World) -> None:
    """It lives, has killed all, and the scheduler has written its manifests anew."""
    world.put(living("host-1")[1], Reconciled(host="host-1", number=1, boot="boot-1"), manifest(disks=(on("shared"),), epoch=2))


def test_a_host_that_is_back_and_clean_is_used_again(fenced: World) -> None:
    back(fenced)
    [lifted] = look(fenced, silent=frozenset())
    assert lifted.verb == "lift"
    fenced.commit([lifted])
    assert fence_of(fenced) is None


@pytest.mark.parametrize("lacking", ["alive", "number", "boot", "manifest", "unreadable"])
def test_the_fence_stays_until_all_of_it_is_so(fenced: World, lacking: str) -> None:
    if lacking == "manifest":
        fenced.put(living("host-1")[1], Reconciled(host="host-1", number=1, boot="boot-1"))
    else:
        back(fenced)
    if lacking == "alive":
        fenced.delete(Alive.at("host-1"))
    elif lacking == "number":
        fenced.put(Reconciled(host="host-1", number=0, boot="boot-1"))
    elif lacking == "boot":
        fenced.put(replace(living("host-1")[1], boot="boot-2"))
    elif lacking == "unreadable":
        fenced.store.commit({manifest("vm-c").key: b"{"})
    assert look(fenced, silent=frozenset()) == []


def test_a_manifest_that_comes_while_the_fence_goes_keeps_it(fenced: World) -> None:
    back(fenced)
    decisions = look(fenced, silent=frozenset())
    fenced.put(manifest("vm-c", disks=(on("shared"),)))
    with pytest.raises(Conflict):
        fenced.commit(decisions)


def test_a_host_that_is_back_before_its_pools_are_safe_is_the_proof_itself(nfs: World) -> None:
    nfs.put(living("host-1")[1], Reconciled(host="host-1", number=1, boot="boot-1"))
    nfs.commit(look(nfs, silent=frozenset()))
    found = fence_of(nfs)
    assert found
    assert (found.phase, found.proofs) == ("fenced", {"shared": CAME_BACK})
    nfs.put(manifest(disks=(on("shared"),), epoch=2))
    assert [decision.verb for decision in look(nfs, silent=frozenset())] == ["lift"]


def test_a_host_that_dies_again_before_it_was_clean_keeps_its_fence(fenced: World) -> None:
    fenced.put(living("host-1")[1])
    fenced.delete(Alive.at("host-1"))
    assert look(fenced) == []


# Removed.


def test_a_removed_host_is_forgotten_when_no_vm_is_on_it(fenced: World) -> None:
    wanted = replace(silent()[0], removed_at=EARLIER, lost=True)
    fenced.put(wanted, placement(host="host-1"))
    assert look(fenced) == []
    fenced.delete(placement().key, manifest().key)
    [forgotten] = look(fenced)
    fenced.commit([forgotten])
    assert [item.key for item in fenced.store.list("").items if "host-1" in item.key] == []
    assert keys.unique("host", "1") in forgotten.deletes


def test_a_vm_that_comes_meanwhile_keeps_a_removed_host(fenced: World) -> None:
    fenced.put(replace(silent()[0], removed_at=EARLIER))
    fenced.delete(manifest().key)
    decisions = look(fenced)
    fenced.put(manifest("vm-z"))
    with pytest.raises(Conflict):
        fenced.commit(decisions)


def test_a_removed_host_that_lives_stays(world: World) -> None:
    world.put(replace(silent()[0], removed_at=EARLIER), living("host-1")[1])
    world.delete(manifest().key)
    assert look(world, silent=frozenset()) == []
