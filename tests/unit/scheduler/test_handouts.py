"""Keys, user data and metadata: told to hosts with their VMs, user data as a copy of their own; cleared when nobody uses it."""

import pytest

from tests.unit.world import NOW, NOW_S, World, blob, host, key, pool, status, vm
from ucloud.loop import Decider
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Decision, NotNewer, absent, empty
from ucloud.model.key import HostBlob
from ucloud.model.record import encode
from ucloud.model.vm import Manifest, Placement, Vm
from ucloud.scheduler.decide import decide

BLOB, OTHER = blob(), blob(b"#cloud-config\n")


def use(data: str, id: str = "vm-a") -> Unique:
    return Unique(path=keys.use("blob", data, id), owner=id)


def settle(world: World) -> None:
    """By the scheduler's own loop."""
    decider = Decider("scheduler", world.store, world.view, decide, world.clock)
    revision = -1
    while (now := world.store.list("").revision) != revision:
        revision = now
        assert decider.step() > 1.0, "a decision did not hold though nobody else wrote"


def placed(*more: object, wanted: Vm) -> World:
    world = World(pool(), *host("host-1"), *more)
    write(world, wanted)
    settle(world)
    return world


def write(world: World, wanted: Vm, *with_it: object) -> None:
    """In one transaction, as the API does."""
    world.store.commit({record.key: encode(record) for record in (wanted, *with_it)})


def told(world: World, id: str = "vm-a") -> Manifest:
    fact = world.facts().get(Manifest, f"manifest/host-1/{id}")
    assert fact
    return fact.record


def copies(world: World) -> list[str]:
    return list(world.facts().all(HostBlob))


def copy_of(data: str, at: str = "host-1") -> str:
    return f"manifest/{at}/blob/{data}"


def only(world: World) -> Decision:
    (decision,) = decide(world.facts(), NOW_S)
    return decision


def test_lines_come_in_the_order_of_the_vm() -> None:
    world = placed(key("key-1"), key("key-2"), wanted=vm(keys=("key-2", "key-1"), metadata={"a": "b"}))
    assert told(world).keys == ("ssh-ed25519 AAAA key-2", "ssh-ed25519 AAAA key-1")
    assert told(world).metadata == {"a": "b"}
    write(world, vm(keys=("key-1",)))
    settle(world)
    assert (told(world).keys, told(world).metadata) == (("ssh-ed25519 AAAA key-1",), {})


def test_a_key_that_gets_another_name_is_no_news_for_hosts() -> None:
    world = placed(key(), wanted=vm(keys=("key-1",)))
    world.put(key(name="laptop", labels={"a": "b"}))
    assert decide(world.facts(), NOW_S) == []


def test_a_host_gets_its_copy_with_what_names_it() -> None:
    world = World(pool(), *host("host-1"), BLOB, use(BLOB.sha256), vm(user_data=BLOB.sha256))
    decision = only(world)
    assert [record.key for record in decision.puts][1:] == ["manifest/host-1/vm-a", copy_of(BLOB.sha256)]
    assert absent(copy_of(BLOB.sha256)) in decision.requires
    settle(world)
    assert (told(world).user_data, copies(world)) == (BLOB.sha256, [copy_of(BLOB.sha256)])


def test_those_who_come_at_once_with_the_same_share_a_copy_and_a_transaction() -> None:
    names = [f"vm-{letter}" for letter in "abcdefgh"]
    world = World(pool(), *host("host-1", 8 * 512), BLOB, *(use(BLOB.sha256, name) for name in names))
    for name in names:
        world.put(vm(name, user_data=BLOB.sha256))
    before = world.store.list("").revision
    settle(world)
    assert world.store.list("").revision == before + 1
    assert copies(world) == [copy_of(BLOB.sha256)]


def test_who_comes_later_rests_on_the_copy_that_is_there() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    copy = world.facts().get(HostBlob, copy_of(BLOB.sha256))
    assert copy
    world.put(vm("vm-b", user_data=BLOB.sha256))
    decision = only(world)
    assert not [record for record in decision.puts if isinstance(record, HostBlob)]
    assert (copy.key, copy.revision) in [(r.key, r.revision) for r in decision.requires if not isinstance(r, NotNewer)]


def test_other_user_data_takes_the_place_of_the_former() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    world.delete(use(BLOB.sha256).path)
    write(world, vm(user_data=OTHER.sha256), OTHER, use(OTHER.sha256))
    settle(world)
    assert (told(world).user_data, copies(world)) == (OTHER.sha256, [copy_of(OTHER.sha256)])
    assert [item.key for item in world.store.list("blob/").items] == [OTHER.key]


def test_a_copy_goes_only_when_no_manifest_there_names_it() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    write(world, vm("vm-b", user_data=BLOB.sha256), use(BLOB.sha256, "vm-b"))
    settle(world)
    write(world, vm(user_data=""))
    settle(world)
    assert copies(world) == [copy_of(BLOB.sha256)]
    write(world, vm("vm-b"))
    settle_but_for_clearing = [decision for decision in decide(world.facts(), NOW_S) if decision.verb != "clear"]
    world.commit(settle_but_for_clearing)
    clear = only(world)
    assert (clear.verb, clear.deletes) == ("clear", (copy_of(BLOB.sha256),))
    assert NotNewer("manifest/host-1/", world.view.seen("manifest/")) in clear.requires


def test_a_copy_that_a_vm_of_this_very_pass_needs_stays() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    write(world, vm())
    world.commit([decision for decision in decide(world.facts(), NOW_S) if decision.verb == "tell"])
    world.put(vm("vm-b", user_data=BLOB.sha256))
    assert [decision.verb for decision in decide(world.facts(), NOW_S)] == ["place"]


def test_copies_of_a_host_with_a_manifest_that_cannot_be_read_stay() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    world.store.commit({"manifest/host-1/vm-a": b"x"})
    world.delete(BLOB.key, use(BLOB.sha256).path)
    assert decide(world.facts(), NOW_S) == []


def test_user_data_goes_when_nobody_uses_it() -> None:
    world = World(BLOB)
    clear = only(world)
    assert (clear.deletes, clear.requires[1]) == ((BLOB.key,), empty(f"use/blob/{BLOB.sha256}/"))
    assert clear.requires[0].revision == world.view.get(type(BLOB), BLOB.key).revision
    world.put(use(BLOB.sha256))
    assert decide(world.facts(), NOW_S) == []
    world.store.commit({use(BLOB.sha256).path: b"x"})
    assert decide(world.facts(), NOW_S) == []


def test_a_deleted_vm_leaves_nothing() -> None:
    world = placed(key(), BLOB, use(BLOB.sha256), wanted=vm(keys=("key-1",), user_data=BLOB.sha256))
    world.put(Unique(path=keys.use("key", "key-1", "vm-a"), owner="vm-a"), status())
    write(world, vm(keys=("key-1",), user_data=BLOB.sha256, deleted_at=NOW))
    settle(world)
    assert (told(world).keys, told(world).user_data, copies(world)) == ((), "", [])
    assert world.store.get(BLOB.key)
    world.delete("status/host-1/vm/vm-a")
    settle(world)
    assert [item.key for item in world.store.list("").items if "vm-a" in item.key or "blob" in item.key] == []


# What cannot be read.


@pytest.mark.parametrize("record", [key(), BLOB])
def test_a_new_vm_waits_and_says_for_what(record: object) -> None:
    world = World(pool(), *host("host-1"), use(BLOB.sha256))
    world.store.commit({record.key: b"x"})
    world.put(vm(keys=("key-1",) if record == key() else (), user_data=BLOB.sha256 if record == BLOB else ""))
    assert only(world).reason == f"the record {record.key} cannot be read"
    settle(world)
    world.put(record)
    settle(world)
    assert world.facts().get(Placement, "placement/vm-a").record.host == "host-1"


def test_a_vm_does_not_wait_for_what_is_only_not_seen_yet() -> None:
    world = World(pool(), *host("host-1"))
    world.facts()
    world.put(vm(user_data=BLOB.sha256))
    assert decide(world.facts(), NOW_S) == []


def test_a_host_keeps_the_keys_that_it_was_told_until_all_can_be_read() -> None:
    world = placed(key("key-1"), key("key-2"), wanted=vm(keys=("key-1",)))
    world.store.commit({"key/key-1": b"x"})
    world.put(vm(keys=("key-1", "key-2"), power="off"))
    settle(world)
    assert (told(world).want, told(world).keys) == ("stopped", ("ssh-ed25519 AAAA key-1",))
    world.put(key("key-1"))
    settle(world)
    assert told(world).keys == ("ssh-ed25519 AAAA key-1", "ssh-ed25519 AAAA key-2")


def test_a_host_keeps_the_user_data_that_it_was_told_until_the_new_one_can_be_read() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    world.store.commit({OTHER.key: b"x"})
    write(world, vm(user_data=OTHER.sha256, power="off"), use(OTHER.sha256))
    settle(world)
    assert (told(world).want, told(world).user_data) == ("stopped", BLOB.sha256)
    assert copies(world) == [copy_of(BLOB.sha256)]
    world.put(OTHER)
    settle(world)
    assert (told(world).user_data, copies(world)) == (OTHER.sha256, [copy_of(OTHER.sha256)])


def test_a_copy_that_somebody_removed_is_made_again() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    world.delete(copy_of(BLOB.sha256))
    settle(world)
    assert copies(world) == [copy_of(BLOB.sha256)]


def test_a_copy_that_cannot_be_read_is_left_alone() -> None:
    world = placed(BLOB, use(BLOB.sha256), wanted=vm(user_data=BLOB.sha256))
    world.store.commit({copy_of(BLOB.sha256): b"x"})
    assert decide(world.facts(), NOW_S) == []
    world.put(vm(user_data=BLOB.sha256, power="off"))
    settle(world)
    assert told(world).want == "stopped"
    world.put(vm("vm-b"))
    settle(world)
    assert world.facts().get(Placement, "placement/vm-b").record.host == "host-1"
