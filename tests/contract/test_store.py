"""The contract of the store, the same on memory and on etcd."""

import threading

import pytest
from world import World

from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.model.decision import NotNewer, Requirement, Unchanged, absent, empty
from ucloud.store.contract import MAX_BYTES, MAX_OPERATIONS, Batch, Change, Compacted, Watch


def test_list_sorts_limits_and_continues(world: World) -> None:
    store = world.store
    store.commit({f"vm/{name}": name.encode() for name in "dbac"} | {"vn": b"", "vm": b"", "host/a": b""})
    listing = store.list("vm/")
    assert [(item.key, item.value) for item in listing.items] == [
        ("vm/a", b"a"),
        ("vm/b", b"b"),
        ("vm/c", b"c"),
        ("vm/d", b"d"),
    ]
    assert not listing.more
    page = store.list("vm/", limit=2)
    assert [item.key for item in page.items] == ["vm/a", "vm/b"]
    assert page.more
    rest = store.list("vm/", after="vm/b", limit=2)
    assert [item.key for item in rest.items] == ["vm/c", "vm/d"]
    assert not rest.more
    assert [item.key for item in store.list("vm/", after="host/z").items][0] == "vm/a"
    assert store.list("vm/", after="vn").items == ()
    assert [item.key for item in store.list("").items] == ["host/a", "vm", "vm/a", "vm/b", "vm/c", "vm/d", "vn"]


def test_list_of_nothing_still_tells_the_revision(world: World) -> None:
    revision = world.store.commit({"vm/a": b""})
    assert world.store.list("none/") == world.store.list("none/", revision=revision)
    assert world.store.list("none/").revision == revision


def test_list_as_of_a_past_revision(world: World) -> None:
    store = world.store
    first = store.commit({"vm/a": b"1", "vm/b": b"1"})
    second = store.commit({"vm/a": b"2", "vm/c": b"2"}, deletes=["vm/b"])
    before = store.list("vm/", revision=first)
    assert [(item.key, item.value) for item in before.items] == [("vm/a", b"1"), ("vm/b", b"1")]
    assert before.revision == first
    assert [(item.key, item.value) for item in store.list("vm/").items] == [("vm/a", b"2"), ("vm/c", b"2")]
    assert store.list("vm/").revision == second


def test_several_keys_are_got_as_of_one_revision(world: World) -> None:
    assert world.store.get_all(["vm/a", "vm/b"]) == [None, None]
    world.store.commit({"vm/a": b"1", "vm/b": b"2"})
    last = world.store.commit({"vm/b": b"3"})
    found = world.store.get_all(["vm/b", "vm", "vm/a"])
    assert [item and item.value for item in found] == [b"3", None, b"1"]
    assert found[0] == world.store.get("vm/b")
    assert found[0]
    assert found[0].mod_revision == last


def test_get_tells_when_a_key_was_created_and_changed(world: World) -> None:
    created = world.store.commit({"vm/a": b"1"})
    changed = world.store.commit({"vm/a": b"2"})
    item = world.store.get("vm/a")
    assert item
    assert (item.key, item.value, item.create_revision, item.mod_revision, item.lease) == ("vm/a", b"2", created, changed, 0)
    assert changed > created
    assert world.store.get("vm/") is None
    assert world.store.get("vm") is None


def test_a_commit_stands_at_one_revision(world: World) -> None:
    world.store.commit({"vm/old": b""})
    revision = world.store.commit({"vm/a": b"", "vm/b": b"", "host/a": b""}, deletes=["vm/old", "vm/never"])
    assert {item.mod_revision for item in world.store.list("").items} == {revision}
    assert [item.key for item in world.store.list("").items] == ["host/a", "vm/a", "vm/b"]


def test_deleting_what_is_absent_changes_nothing(world: World) -> None:
    before = world.revision()
    assert world.store.commit(deletes=["vm/never"]) == before
    assert world.store.commit() == before
    assert world.revision() == before


def test_a_deleted_and_recreated_key_is_another_one(world: World) -> None:
    world.store.commit({"vm/a": b""})
    world.store.commit(deletes=["vm/a"])
    revision = world.store.commit({"vm/a": b""})
    item = world.store.get("vm/a")
    assert item
    assert item.create_revision == item.mod_revision == revision


def test_unchanged(world: World) -> None:
    store = world.store
    first = store.commit({"vm/a": b"1"}, requires=[absent("vm/a")])
    second = store.commit({"vm/a": b"2"}, requires=[Unchanged("vm/a", first)])
    conflicts(world, Unchanged("vm/a", first))
    conflicts(world, absent("vm/a"))
    conflicts(world, Unchanged("vm/a", second + 1))
    conflicts(world, Unchanged("vm/b", second))
    store.commit(deletes=["vm/a"], requires=[Unchanged("vm/a", second)])
    conflicts(world, Unchanged("vm/a", second))
    store.commit(requires=[absent("vm/a")])


def test_not_newer(world: World) -> None:
    store = world.store
    first = store.commit({"vm/h1/a": b"", "vm/h1/b": b"", "vm/h10/a": b""})
    store.commit(requires=[NotNewer("vm/h1/", first)])
    conflicts(world, NotNewer("vm/h1/", first - 1))
    store.commit({"vm/h10/a": b"other"})
    store.commit(requires=[NotNewer("vm/h1/", first)])
    store.commit(deletes=["vm/h1/b"])
    store.commit(requires=[NotNewer("vm/h1/", first)])
    changed = store.commit({"vm/h1/a": b"changed"})
    conflicts(world, NotNewer("vm/h1/", first))
    store.commit(requires=[NotNewer("vm/h1/", changed)])
    created = store.commit({"vm/h1/c": b"created"}, requires=[NotNewer("vm/h1/", changed)])
    conflicts(world, NotNewer("vm/h1/", changed))
    store.commit(requires=[NotNewer("vm/h1/", created)])


def test_empty(world: World) -> None:
    store = world.store
    store.commit({"vm/a": b""}, requires=[empty("vm/")])
    conflicts(world, empty("vm/"))
    conflicts(world, empty(""))
    store.commit(deletes=["vm/a"], requires=[empty("vm/h1/")])
    store.commit(requires=[empty("vm/"), empty("")])


def conflicts(world: World, requirement: Requirement) -> None:
    """It does not hold; then nothing is written, though another requirement does hold."""
    before = world.store.list("")
    with pytest.raises(Conflict):
        world.store.commit(
            {"other/put": b"", "vm/a": b"overwritten"}, deletes=["vm/h1/a"], requires=[absent("none"), requirement]
        )
    assert world.store.list("") == before


def test_128_writes_and_128_requirements_at_most(world: World) -> None:
    store = world.store
    keys = [f"vm/{number}" for number in range(MAX_OPERATIONS + 1)]
    puts = dict.fromkeys(keys[:100], b"")
    requires = [absent(key) for key in keys]
    store.commit(puts, deletes=keys[100:128], requires=requires[:128])
    before = world.revision()
    for writes in ({**puts, keys[128]: b""}, dict.fromkeys(keys, b"")):
        with pytest.raises(Invalid):
            store.commit(writes, deletes=[key for key in keys[100:128] if key not in writes])
    with pytest.raises(Invalid):
        store.commit({"other": b""}, requires=[empty(f"none/{number}/") for number in range(129)])
    with pytest.raises(Invalid):
        store.commit(deletes=keys)
    assert world.revision() == before


def test_a_transaction_has_at_most_1_5_mib(world: World) -> None:
    store = world.store
    store.commit({"blob/a": bytes(MAX_BYTES - 1000)})
    before = world.revision()
    with pytest.raises(Invalid):
        store.commit({"blob/b": bytes(MAX_BYTES)})
    with pytest.raises(Invalid):
        store.commit({f"blob/{number}": bytes(MAX_BYTES // 10) for number in range(10)})
    with pytest.raises(Invalid):
        store.commit({"blob/b": bytes(10 * MAX_BYTES)})
    assert world.revision() == before
    store.commit({f"blob/{number}": bytes(MAX_BYTES // 100) for number in range(99)})


def test_a_key_twice_in_a_transaction_is_invalid(world: World) -> None:
    with pytest.raises(Invalid):
        world.store.commit({"vm/a": b""}, deletes=["vm/a"])
    with pytest.raises(Invalid):
        world.store.commit(deletes=["vm/a", "vm/a"])


def test_a_lease_that_is_not_kept_alive_takes_its_keys_along(world: World) -> None:
    store = world.store
    lease = store.grant(0.5)
    store.commit({"alive/h1": b"", "alive/h2": b""}, lease=lease)
    store.commit({"alive/h3": b""})
    item = store.get("alive/h1")
    assert item
    assert item.lease == lease
    with world.watch({"alive/": item.mod_revision}) as watch:
        world.wait_for(lambda: len(store.list("alive/").items) == 1)
        changes = [change for batch in world.changes(watch, "alive/", 3) for change in batch.changes]
    assert [(change.key, change.item) for change in changes[1:]] == [("alive/h1", None), ("alive/h2", None)]
    assert changes[1].revision == changes[2].revision
    with pytest.raises(NotFound):
        store.keep_alive(lease)


def test_a_lease_that_is_kept_alive_stays(world: World) -> None:
    store = world.store
    renewed, other = store.grant(1), store.grant(1)
    store.commit({"alive/h1": b""}, lease=renewed)
    store.commit({"alive/h2": b""}, lease=other)

    def other_is_gone() -> bool:
        assert store.keep_alive(renewed) >= 1
        return store.get("alive/h2") is None

    world.wait_for(other_is_gone)
    assert store.get("alive/h1")


def test_a_key_put_again_without_a_lease_outlives_it(world: World) -> None:
    store = world.store
    lease = store.grant(60)
    store.commit({"alive/h1": b"", "alive/h2": b""}, lease=lease)
    store.commit({"alive/h1": b""})
    store.revoke(lease)
    assert [item.key for item in store.list("alive/").items] == ["alive/h1"]


def test_a_revoked_lease_is_gone(world: World) -> None:
    store = world.store
    lease = store.grant(60)
    store.commit({"alive/h1": b""}, lease=lease)
    store.revoke(lease)
    store.revoke(lease)
    assert store.get("alive/h1") is None
    with pytest.raises(NotFound):
        store.keep_alive(lease)
    before = world.revision()
    with pytest.raises(NotFound):
        store.commit({"alive/h1": b""}, deletes=["vm/a"], lease=lease)
    with pytest.raises(Conflict):
        store.commit({"alive/h1": b""}, requires=[Unchanged("vm/a", before)], lease=lease)
    assert world.revision() == before
    store.commit(deletes=["vm/a"], lease=lease)


def test_watch_tells_changes_in_order_and_commits_whole(world: World) -> None:
    store = world.store
    start = store.commit({"vm/old": b"", "vm/a": b"0"})
    woken = threading.Event()
    with world.watch({"vm/": start, "host/": start}, woken.set) as watch:
        revisions = [store.commit({f"vm/{number}": b"", "host/a": b"%d" % number, "vm/a": b""}) for number in range(50)]
        last = store.commit({"vm/b": b"new"}, deletes=["vm/old", "vm/a"])
        batches = world.changes(watch, "vm/", 103)
        assert woken.is_set()
    for batch in batches:
        assert batch.changes[-1].revision <= batch.revision
    told = [change for batch in batches for change in batch.changes]
    assert [change.revision for change in told] == [revision for revision in revisions for _ in range(2)] + [last] * 3
    assert {(c.key, c.item.value if c.item else None) for c in told if c.revision == last} == {
        ("vm/b", b"new"),
        ("vm/old", None),
        ("vm/a", None),
    }
    created = told[0].item
    assert created
    assert (created.create_revision, created.mod_revision) == (revisions[0], revisions[0])
    commits = [{change.revision for change in batch.changes} for batch in batches]
    assert sum(map(len, commits)) == 51, "a commit was split over two batches"


def test_watch_from_a_past_revision_and_several_prefixes(world: World) -> None:
    store = world.store
    first = store.commit({"vm/a": b"1"})
    second = store.commit({"vm/a": b"2", "host/a": b"2"})
    third = store.commit({"host/a": b"3"}, deletes=["vm/a"])
    for after, revisions in ((first, [second, third]), (second, [third])):
        with world.watch({"vm/": after, "host/": after}) as watch:
            found = gather(world, watch, {"vm/": len(revisions), "host/": len(revisions)})
        assert [change.revision for change in found["vm/"]] == revisions
        assert [change.revision for change in found["host/"]] == revisions


def gather(world: World, watch: Watch, counts: dict[str, int]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {prefix: [] for prefix in counts}

    def complete() -> bool:
        for batch in watch.poll():
            found[batch.prefix].extend(batch.changes)
        return all(len(found[prefix]) >= count for prefix, count in counts.items())

    world.wait_for(complete)
    return found


def test_watch_of_a_whole_key_and_of_a_prefix_with_slash(world: World) -> None:
    store = world.store
    start = world.revision()
    with world.watch({"manifest/h1/": start, "fence/h1": start}) as watch:
        store.commit({"manifest/h10/a": b"", "manifest/h1": b"", "fence/h2": b""})
        store.commit({"manifest/h1/a": b"", "fence/h1": b""})
        found = gather(world, watch, {"manifest/h1/": 1, "fence/h1": 1})
    assert [change.key for change in found["manifest/h1/"]] == ["manifest/h1/a"]
    assert [change.key for change in found["fence/h1"]] == ["fence/h1"]


def test_watch_of_everything(world: World) -> None:
    start = world.revision()
    with world.watch({"": start}) as watch:
        world.store.commit({"vm/a": b"", "host/a": b""})
        found = gather(world, watch, {"": 2})
    assert [change.key for change in found[""]] == ["vm/a", "host/a"]


def test_compaction_forgets_what_was_before(world: World) -> None:
    store = world.store
    first = store.commit({"vm/a": b"1", "vm/b": b"1"})
    deleted = store.commit({"vm/a": b"2"}, deletes=["vm/b"])
    last = store.commit({"vm/a": b"3"})
    store.compact(deleted)
    for revision in (first, last + 1000):
        with pytest.raises(Compacted):
            store.list("vm/", revision=revision)
    assert [(item.key, item.value) for item in store.list("vm/", revision=deleted).items] == [("vm/a", b"2")]
    assert [(item.key, item.value) for item in store.list("vm/").items] == [("vm/a", b"3")]
    for after in (0, first - 1, first):
        with world.watch({"vm/": after}) as watch, pytest.raises(Compacted):
            world.wait_for(lambda watch=watch: tells_changes(watch))
    with world.watch({"vm/": deleted}) as watch:
        (batch,) = world.changes(watch, "vm/", 1)
        assert [change.revision for change in batch.changes] == [last]


def tells_changes(watch: Watch) -> bool:
    return any(batch.changes for batch in watch.poll())


def test_a_quiet_watch_gives_signs_of_life(world: World) -> None:
    start = world.revision()
    heard: list[Batch] = []
    with world.watch({"vm/": start, "host/": start}) as watch:

        def both() -> bool:
            heard.extend(watch.poll())
            return {batch.prefix for batch in heard} == {"vm/", "host/"}

        world.wait_for(both)
        assert not [batch for batch in heard if batch.changes]
        world.store.commit({"vm/a": b""})
        assert len(world.changes(watch, "vm/", 1)) == 1


def test_a_closed_watch_wakes_nobody(world: World) -> None:
    woken = threading.Event()
    with world.watch({"vm/": world.revision()}, woken.set):
        pass
    woken.clear()
    with world.watch({"vm/": world.revision()}) as other:
        world.store.commit({"vm/a": b""})
        world.changes(other, "vm/", 1)
    assert not woken.is_set()


def test_the_members_of_the_store(world: World) -> None:
    (before,) = world.store.members()
    assert (before.answers, before.leads, before.has_leader, before.error, before.alarms) == (True, True, True, "", ())
    assert before.name
    world.store.commit({f"vm/{number}": bytes(1000) for number in range(100)})
    world.wait_for(lambda: world.store.members()[0].db_bytes > 100_000)
