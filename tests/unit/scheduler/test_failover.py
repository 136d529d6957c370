"""What becomes of the VMs of a host that was declared dead."""

import pytest
from msgspec.structs import replace

from tests.unit.world import NOW, NOW_S, World, blob, fence, host, key, network, pool, port, status, vm
from ucloud.base.errors import Conflict
from ucloud.loop import batches
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Decision, NotNewer, Unchanged
from ucloud.model.host import Fence, Reconciled
from ucloud.model.key import HostBlob
from ucloud.model.network import Port
from ucloud.model.record import Record
from ucloud.model.vm import Manifest, Placement, Status
from ucloud.scheduler.decide import decide

BEST = "of the hosts with room it had the most free memory"
SHARED = pool("shared", shared=True, fence="same-kernel")
SAFE = {"shared": "its lease has run out"}


def begun(id: str = "vm-a", **changes: object) -> Status:
    """What host-1 says of a VM of which it holds the disk."""
    return status(id, **{"pools": ("shared",), "leased": True, **changes})  # type: ignore[arg-type]


def settle(world: World) -> None:
    """As the loop commits it: some decisions at a time, in order."""
    for _ in range(99):
        if not (decisions := decide(world.facts(), NOW_S)):
            return
        world.commit(decisions[:1])
    raise AssertionError("no end")


def cloud(*vms: Record, statuses: tuple[Record, ...] = (), **changes: object) -> World:
    """host-1 has these VMs, and begun them as `statuses` say (all: plainly); then host-2 comes."""
    world = World(SHARED, pool("local"), *host("host-1", 1 << 20, 1 << 10, **changes))
    world.put(*vms)
    settle(world)
    world.put(*(statuses or [begun(record.id) for record in vms if record.key.startswith("vm/")]))  # type: ignore[attr-defined]
    world.put(*host("host-2"))
    return world


def die(world: World, **changes: object) -> None:
    world.delete("alive/host-1")
    world.put(fence(**{"number": 3, "proofs": SAFE, **changes}))  # type: ignore[arg-type]


def on_shared(id: str = "vm-a", **changes: object) -> Record:
    return vm(id, pool="shared", **changes)


def uses_blob(id: str) -> Unique:
    return Unique(path=keys.use("blob", blob().sha256, id), owner=id)


def only(world: World) -> Decision:
    (decision,) = decide(world.facts(), NOW_S)
    return decision


def placed(world: World, id: str = "vm-a") -> Placement:
    fact = world.facts().get(Placement, Placement.at(id))
    assert fact
    return fact.record


def told(world: World, host: str, id: str = "vm-a") -> Manifest | None:
    fact = world.facts().get(Manifest, Manifest.at(host, id))
    return fact.record if fact else None


def test_a_vm_moves_with_a_new_epoch_and_its_former_owner_is_told_of_it_no_more() -> None:
    world = cloud(on_shared())
    die(world)
    decision = only(world)
    assert (decision.verb, decision.key) == ("move", "vm/vm-a")
    world.commit([decision])
    reason = f"1 was declared dead (fence 3); on 2: {BEST}"
    assert placed(world) == Placement(vm="vm-a", host="host-2", epoch=2, since=NOW, reason=reason)
    assert told(world, "host-1") is None
    manifest = told(world, "host-2")
    assert manifest
    assert (manifest.epoch, manifest.boots, manifest.want, manifest.memory_mib) == (2, 1, "running", 512)
    assert decide(world.facts(), NOW_S) == []


def test_a_move_rests_on_all_that_makes_it_safe() -> None:
    world = cloud(on_shared())
    die(world)
    revision = {item.key: item.mod_revision for item in world.store.list("").items}
    of_vm = ("vm/vm-a", "placement/vm-a", "manifest/host-1/vm-a", "status/host-1/vm/vm-a", "fence/host-1", "pool/shared")
    of_host = ("host/host-2", "alive/host-2", "status/host-2/inventory")
    others = {Unchanged("fence/host-2", 0), NotNewer("manifest/host-2/", world.view.seen("manifest/"))}
    assert set(only(world).requires) == {Unchanged(key, revision[key]) for key in (*of_vm, *of_host)} | others


@pytest.mark.parametrize(
    "change",
    [fence(number=3, phase="fencing", proofs=SAFE), fence(number=4, proofs={}), begun(phase="stopped"), on_shared(boots=2)],
    ids=["phase", "number", "status", "vm"],
)
def test_whoever_decided_on_old_news_moves_nothing(change: Record) -> None:
    world = cloud(on_shared())
    die(world)
    decision = only(world)
    world.put(change)
    with pytest.raises(Conflict):
        world.commit([decision])


def test_nothing_moves_before_its_host_is_fenced() -> None:
    world = cloud(on_shared())
    world.delete("alive/host-1")
    assert decide(world.facts(), NOW_S) == []
    world.put(fence(number=3, phase="fencing", proofs=SAFE))
    assert decide(world.facts(), NOW_S) == []


def test_five_vms_move_in_one_transaction() -> None:
    ports = [replace(on_shared(f"vm-{name}"), ports=(port(f"vm-{name}"),), user_data=blob().sha256) for name in "abcde"]
    world = cloud(network(), blob(), *(uses_blob(f"vm-{name}") for name in "abcde"), *ports)
    world.put(*host("host-3"), *host("host-4"), *host("host-5"), *host("host-6"))
    die(world)
    decisions = [decision for decision in decide(world.facts(), NOW_S) if decision.verb == "move"]
    assert len(decisions) == 5
    assert len(list(batches(decisions))) == 1


def test_sixteen_vms_move_to_three_hosts_in_one_transaction() -> None:
    world = cloud(*(on_shared(f"vm-{name}", memory_mib=100) for name in "abcdefghijklmnop"))
    world.put(*host("host-3"), *host("host-4"))
    die(world)
    assert len(list(batches(decide(world.facts(), NOW_S)))) == 1


def test_its_address_and_user_data_go_with_it() -> None:
    wanted = replace(on_shared(), ports=(port(),), user_data=blob().sha256)
    world = cloud(network(), blob(), uses_blob("vm-a"), wanted, statuses=(begun(),))
    die(world)
    settle(world)
    (entry,) = world.facts().all(Port).values()
    assert entry.record.host == "host-2"
    assert list(world.facts().all(HostBlob)) == [HostBlob.at("host-2", "blob", blob().sha256)]


def test_what_one_takes_the_next_does_not_get() -> None:
    world = cloud(*(on_shared(f"vm-{name}", memory_mib=2500) for name in "abc"), vm("vm-d", memory_mib=3000))
    world.put(*host("host-3", 3000))
    die(world)
    settle(world)
    assert [placed(world, f"vm-{name}").host for name in "abc"] == ["host-2", "host-3", ""]


# Whose turn it is.


def test_those_of_dead_hosts_come_first_by_priority_running_before_stopped() -> None:
    vms = [on_shared("vm-a", power="off"), on_shared("vm-b", priority="low"), on_shared("vm-c", priority="high")]
    world = cloud(*vms, on_shared("vm-d"))
    world.put(on_shared("vm-e", priority="high"), vm("vm-f"))
    die(world)
    order = [decision.key for decision in decide(world.facts(), NOW_S)]
    assert order == [f"vm/vm-{name}" for name in "cdabef"]


def test_they_come_before_one_that_wants_to_grow() -> None:
    world = World(SHARED, *host("host-2"), on_shared("vm-g", power="off"))
    settle(world)
    world.put(*host("host-1", 1 << 20), on_shared("vm-a", memory_mib=3000))
    settle(world)
    world.put(begun(), on_shared("vm-g", power="off", memory_mib=2000))
    die(world)
    assert [(decision.verb, decision.key) for decision in decide(world.facts(), NOW_S)] == [
        ("move", "vm/vm-a"),
        ("wait", "vm/vm-g"),
    ]


def test_without_room_it_has_no_owner_says_why_and_comes_first_when_there_is_room() -> None:
    wanted = replace(on_shared(memory_mib=5000), ports=(port(),))
    world = cloud(network(), wanted, statuses=(begun(),))
    die(world)
    decision = only(world)
    full = "no host has 5000 MiB free; the most is 4096 MiB on 2"
    assert (decision.verb, decision.reason) == ("wait", f"1 was declared dead (fence 3), and {full}")
    settle(world)
    assert placed(world) == Placement(vm="vm-a", host="", epoch=1, since=NOW, reason=full)
    assert told(world, "host-1") is None
    assert not world.facts().all(Port)
    world.put(on_shared("vm-0", memory_mib=5000), *host("host-3", 5000))
    settle(world)
    assert (placed(world).host, placed(world).epoch, placed(world, "vm-0").host) == ("host-3", 2, "")


def test_its_own_host_takes_it_again_when_the_fence_is_gone() -> None:
    world = cloud(on_shared(memory_mib=5000))
    die(world)
    settle(world)
    world.put(*host("host-1", 1 << 20))
    assert decide(world.facts(), NOW_S) == []
    world.delete("fence/host-1")
    settle(world)
    assert (placed(world).host, placed(world).epoch) == ("host-1", 2)


def test_several_hosts_may_be_dead_at_once() -> None:
    world = cloud(on_shared("vm-a"))
    world.put(*host("host-3", 1 << 20), on_shared("vm-b"))
    settle(world)
    world.put(begun("vm-b", host="host-3"))
    die(world)
    world.delete("alive/host-3")
    world.put(fence("host-3", proofs=SAFE))
    settle(world)
    assert {placed(world, "vm-a").host, placed(world, "vm-b").host} == {"host-2"}


def test_a_group_stays_apart_and_none_is_in_its_own_way() -> None:
    """vm-a's rack has another host; vm-b's has none but its own."""
    rack = [record for id in ("host-2", "host-3") for record in host(id, labels={"rack": "r1" if id == "host-2" else "r2"})]
    world = World(SHARED, *host("host-1", 1 << 20, labels={"rack": "r1"}), on_shared("vm-a", spread="web@rack"))
    settle(world)
    world.put(begun("vm-a"), *rack, on_shared("vm-b", spread="web@rack"))
    settle(world)
    assert placed(world, "vm-b").host == "host-3"
    die(world)
    settle(world)
    assert placed(world, "vm-a").host == "host-2"


# Who stays, and what it waits for.

STAYS = [
    ({"ha": "never"}, {}, {}, "1 to come back: it is not to run elsewhere (--ha never)"),
    ({}, {"ha": "never"}, {}, "1 to come back: it is not to run elsewhere (--ha never)"),
    ({"host": "host-1"}, {}, {}, "1 to come back: it is to run on that host alone"),
    ({"pool": "local"}, {"pools": ("local",)}, {}, "1 to come back: its disk is in the pool local, of which 1 has its own"),
    ({}, {"pools": ("local", "shared")}, {}, "1 to come back: its disk is in the pool local, of which 1 has its own"),
    (
        {},
        {},
        {"proofs": {}, "errors": {"shared": "its fence command failed"}},
        "1 to come back, or to be off for certain: it may still write to the pool shared (its fence command failed); "
        "if it is off, say so: ucloud host fence 1 --confirm-off",
    ),
    (
        {},
        {"leased": False},
        {},
        "1 to come back, or to be off for certain: its guest there does not end when the host's lease does; "
        "if it is off, say so: ucloud host fence 1 --confirm-off",
    ),
]


@pytest.mark.parametrize(("wanted", "said", "fenced", "words"), STAYS)
def test_one_that_may_not_move_is_told_again_once_and_waits(wanted: dict, said: dict, fenced: dict, words: str) -> None:
    world = cloud(on_shared(), statuses=(begun(**said),)) if "pool" not in wanted else cloud(vm(), statuses=(begun(**said),))
    world.put(on_shared(**wanted) if "pool" not in wanted else vm())
    before = told(world, "host-1")
    die(world, **fenced)
    decision = only(world)
    assert (decision.verb, decision.reason) == ("wait", words)
    world.commit([decision])
    after = placed(world)
    assert (after.host, after.epoch, after.waits_for, after.waits_since) == ("host-1", 2, words, NOW)
    assert before
    assert told(world, "host-1") == replace(before, epoch=2)
    assert decide(world.facts(), NOW_S) == [], "it is said once"


def test_every_word_of_the_host_manager_has_it_told_again() -> None:
    """What had begun before the fence's last change could still be committed when it goes: it rests on the older manifest."""
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    die(world)
    settle(world)
    world.put(fence(number=3, proofs=SAFE, errors={"local": "only it has that"}))
    settle(world)
    assert placed(world).epoch == 3
    assert told(world, "host-1").epoch == 3  # type: ignore[union-attr]


def test_when_the_fence_goes_it_waits_no_more_and_is_told_what_was_wanted_meanwhile() -> None:
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    die(world)
    settle(world)
    world.put(vm(power="off"))
    assert decide(world.facts(), NOW_S) == [], "its host does nothing anyway"
    world.put(vm())
    world.put(vm(power="off"), host("host-1")[1])
    world.delete("fence/host-1")
    settle(world)
    assert (placed(world).host, placed(world).waits_for, placed(world).waits_since) == ("host-1", "", "")
    assert told(world, "host-1").want == "stopped"  # type: ignore[union-attr]


def test_when_nothing_else_was_wanted_it_just_waits_no_more() -> None:
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    die(world)
    settle(world)
    world.put(host("host-1")[1])
    world.delete("fence/host-1")
    assert [(decision.verb, decision.key) for decision in decide(world.facts(), NOW_S)] == [("go-on", "vm/vm-a")]
    settle(world)
    assert (placed(world).epoch, placed(world).waits_for) == (2, "")


@pytest.mark.parametrize(
    "proof",
    [host("host-1", off="boot-1")[0], Reconciled(host="host-1", number=3, boot="boot-2"), fence(number=3, proofs=SAFE)],
    ids=["off", "reconciled", "proof"],
)
def test_a_proof_that_comes_later_sets_it_free(proof: Record) -> None:
    said = {} if proof.key == "fence/host-1" else {"leased": False}
    world = cloud(on_shared(), statuses=(begun(**said),))
    die(world, **({"proofs": {}} if not said else {}))
    settle(world)
    assert placed(world).host == "host-1"
    world.put(proof)
    settle(world)
    assert (placed(world).host, placed(world).epoch, placed(world).waits_for) == ("host-2", 3, "")


def test_one_whose_host_is_back_and_will_be_ready_in_a_moment_stays_there() -> None:
    world = cloud(on_shared(), statuses=(begun(),))
    die(world, proofs={})
    settle(world)
    world.put(host("host-1")[1], Reconciled(host="host-1", number=3, boot="boot-2"), fence(number=3, proofs=SAFE))
    settle(world)
    assert (placed(world).host, placed(world).waits_for) == ("host-1", "1 to be made ready: it is back")
    world.delete("fence/host-1")
    settle(world)
    assert (placed(world).host, placed(world).waits_for) == ("host-1", "")


def test_one_whose_host_is_back_but_dies_once_more_moves() -> None:
    world = cloud(on_shared(), statuses=(begun(),))
    die(world, proofs={})
    world.put(host("host-1")[1], Reconciled(host="host-1", number=3, boot="boot-2"), fence(number=3, proofs=SAFE))
    settle(world)
    world.delete("alive/host-1")
    settle(world)
    assert placed(world).host == "host-2"


@pytest.mark.parametrize("record", [host("host-1", off="boot-0")[0], Reconciled(host="host-1", number=2, boot="boot-1")])
def test_the_word_about_another_boot_or_fence_is_not_meant(record: Record) -> None:
    world = cloud(on_shared(), statuses=(begun(leased=False),))
    die(world)
    world.put(record)
    settle(world)
    assert placed(world).host == "host-1"


@pytest.mark.parametrize("wanted", [vm(), vm(ha="never"), vm(power="off")])
def test_one_that_its_host_never_began_moves_from_wherever(wanted: Record) -> None:
    """Nothing of it is there, nor can be: a host's first act is to commit a status, which no fence may stand against."""
    world = World(pool(), *host("host-1"), wanted)
    settle(world)
    world.put(*host("host-2"))
    die(world, proofs={})
    decision = only(world)
    assert Unchanged("status/host-1/vm/vm-a", 0) in decision.requires
    world.commit([decision])
    assert (placed(world).host, placed(world).epoch) == ("host-2", 2)


def test_what_cannot_be_read_is_left_alone() -> None:
    for bad in ("status/host-1/vm/vm-a", "fence/host-1", "placement/vm-a", "pool/shared"):
        world = cloud(on_shared())
        die(world)
        world.store.commit({bad: b"?"})
        assert not [decision for decision in decide(world.facts(), NOW_S) if decision.verb == "move"]


@pytest.mark.parametrize("why", ["unreadable", "elsewhere", "unknown"])
def test_a_host_is_told_again_also_of_vms_of_which_nothing_can_be_decided(why: str) -> None:
    """Else its fence would never go."""
    world = cloud(on_shared())
    die(world)
    if why == "unreadable":
        world.store.commit({"vm/vm-a": b"?"})
    elif why == "elsewhere":
        world.put(replace(placed(world), host="host-2"))
    else:
        world.delete("vm/vm-a", "placement/vm-a")
    before = told(world, "host-1")
    settle(world)
    fact = world.facts().get(Manifest, "manifest/host-1/vm-a")
    fenced = world.facts().get(Fence, "fence/host-1")
    assert fact
    assert fenced
    assert fact.record == before
    assert fact.revision > fenced.revision


def test_without_its_key_it_waits_where_it_is() -> None:
    world = cloud(on_shared())
    world.put(on_shared(keys=("key-9",)), key("key-1"), blob())
    die(world)
    settle(world)
    assert (placed(world).host, placed(world).waits_for) == ("host-1", "there is no key/key-9")


# Guests that have powered themselves off.


@pytest.mark.parametrize("pool_name", ["shared", "local"])
def test_a_guest_that_has_powered_itself_off_is_not_started_again_whoever_has_it(pool_name: str) -> None:
    world = cloud(vm(pool=pool_name), statuses=(begun(pools=(pool_name,), phase="off"),))
    die(world)
    settle(world)
    host_id = placed(world).host
    assert host_id == ("host-2" if pool_name == "shared" else "host-1")
    manifest = told(world, host_id)
    assert manifest
    assert (manifest.want, manifest.boots, manifest.epoch, manifest.powered_off) == ("running", 1, 2, True)
    world.delete("fence/host-1")
    world.put(vm(pool=pool_name, name="renamed"))
    settle(world)
    assert told(world, host_id).powered_off  # type: ignore[union-attr]
    world.put(vm(pool=pool_name, boots=2))
    settle(world)
    assert not told(world, host_id).powered_off  # type: ignore[union-attr]


def test_that_is_remembered_also_without_room_and_by_a_host_that_has_said_nothing_yet() -> None:
    world = cloud(on_shared(memory_mib=5000), statuses=(begun(phase="off"),))
    die(world)
    settle(world)
    assert (placed(world).host, placed(world).powered_off) == ("", 1)
    world.put(*host("host-3", 8192))
    settle(world)
    world.delete("alive/host-3")
    world.put(fence("host-3", proofs=SAFE), *host("host-4", 8192))
    settle(world)
    assert placed(world).host == "host-4"
    assert told(world, "host-4").powered_off  # type: ignore[union-attr]


# Deleted ones.


def obey(world: World, host: str) -> None:
    """The host does what it is told: says that it is stopped, and removes the last trace."""
    manifest = told(world, host)
    if manifest and manifest.want == "stopped":
        world.put(begun(host=host, epoch=manifest.epoch, phase="stopped"))
    elif manifest and manifest.want == "absent":
        world.delete(f"status/{host}/vm/vm-a")


def leftovers(world: World) -> list[str]:
    return [item.key for item in world.store.list("").items if "vm-a" in item.key and not item.key.startswith("status/host-1/")]


def test_a_deleted_vm_goes_to_a_living_host_which_removes_its_disk() -> None:
    world = cloud(on_shared(memory_mib=5000))
    world.put(on_shared(memory_mib=5000, deleted_at=NOW))
    die(world)
    assert only(world).reason == "1 was declared dead (fence 3); on 2, to be removed there"
    settle(world)
    manifest = told(world, "host-2")
    assert manifest
    assert (manifest.want, manifest.disks_do, manifest.cpus, manifest.memory_mib, manifest.epoch) == (
        "stopped",
        "keep",
        0,
        0,
        2,
    )
    obey(world, "host-2")
    decision = only(world)
    assert (decision.puts[0].want, decision.puts[0].disks_do) == ("absent", "delete")
    assert "status/host-2/vm/vm-a" in {requirement.key for requirement in decision.requires}  # type: ignore[union-attr]
    settle(world)
    obey(world, "host-2")
    settle(world)
    assert leftovers(world) == []


def test_one_that_was_deleted_after_it_moved_is_not_forgotten_before_its_disk_is() -> None:
    """host-2 has said nothing of it yet: its disk is there all the same."""
    world = cloud(on_shared())
    die(world)
    settle(world)
    world.put(on_shared(deleted_at=NOW))
    settle(world)
    assert told(world, "host-2").want == "stopped"  # type: ignore[union-attr]
    for _ in range(2):
        obey(world, "host-2")
        settle(world)
    assert leftovers(world) == []


def test_one_that_was_deleted_while_it_had_no_room_needs_none() -> None:
    world = cloud(on_shared(memory_mib=5000))
    die(world)
    settle(world)
    assert placed(world).host == ""
    world.put(on_shared(memory_mib=5000, deleted_at=NOW))
    settle(world)
    for _ in range(2):
        obey(world, "host-2")
        settle(world)
    assert leftovers(world) == []


@pytest.mark.parametrize("wish", [{"ha": "never"}, {"host": "host-1"}])
def test_a_deleted_vm_has_no_wishes(wish: dict) -> None:
    world = cloud(on_shared(**wish))
    world.put(on_shared(**wish, deleted_at=NOW))
    die(world)
    settle(world)
    assert placed(world).host == "host-2"


def test_a_deleted_vm_on_a_local_pool_waits_for_its_host() -> None:
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    world.put(vm(deleted_at=NOW))
    settle(world)
    die(world)
    settle(world)
    last = "; if it never does: ucloud host remove 1 --lost"
    assert placed(world).waits_for == f"1 to come back: its disk is in the pool local, of which 1 has its own{last}"
    manifest = told(world, "host-1")
    assert manifest
    assert (manifest.want, manifest.disks_do, manifest.epoch) == ("absent", "delete", 2)
    world.delete("fence/host-1")
    settle(world)
    obey(world, "host-1")
    settle(world)
    assert leftovers(world) == []


# Hosts that never come back.


def lost(world: World) -> None:
    die(world)
    world.put(host("host-1", removed_at=NOW, lost=True)[0])


def test_a_disk_that_only_a_lost_host_had_is_lost_and_nobody_makes_another_of_that_name() -> None:
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    lost(world)
    decision = only(world)
    revision = {item.key: item.mod_revision for item in world.store.list("").items}
    for id in ("fence/host-1", "host/host-1", "pool/local"):
        assert Unchanged(id, revision[id]) in decision.requires
    settle(world)
    reason = "its disk was lost with 1, which alone had it (pool local)"
    assert placed(world) == Placement(vm="vm-a", host="", epoch=1, since=NOW, reason=reason, lost=True)
    assert told(world, "host-1") is None
    world.put(vm(deleted_at=NOW))
    settle(world)
    assert leftovers(world) == []


def test_a_deleted_one_is_forgotten_with_its_lost_host_also_what_it_was_detached_from() -> None:
    wanted = replace(vm(), ports=(port(),))
    world = cloud(network(), wanted, statuses=(begun(pools=("local",)),))
    world.put(vm(deleted_at=NOW))
    settle(world)
    assert world.facts().all(Port)
    lost(world)
    settle(world)
    assert leftovers(world) == []
    assert not world.facts().all(Port)


@pytest.mark.parametrize("wish", [{"ha": "never"}, {"host": "host-1"}, {}])
def test_what_a_shared_pool_has_is_not_lost_and_there_is_no_host_to_wait_for(wish: dict) -> None:
    world = cloud(on_shared(**wish))
    lost(world)
    settle(world)
    if "host" in wish:
        assert (placed(world).host, placed(world).reason) == ("", "1, where it shall run, is to be removed")
    else:
        assert placed(world).host == "host-2"
    assert not placed(world).lost


def test_it_is_lost_only_once_its_host_is_fenced() -> None:
    world = cloud(vm(), statuses=(begun(pools=("local",)),))
    world.put(host("host-1", removed_at=NOW, lost=True)[0])
    assert decide(world.facts(), NOW_S) == []
