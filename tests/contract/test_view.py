"""The view, on memory and on etcd."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from world import World

from ucloud.base.errors import Temporary
from ucloud.model.decision import NotNewer, Unchanged
from ucloud.model.host import Alive, Host, Inventory
from ucloud.model.image import Pool
from ucloud.model.record import encode
from ucloud.store import view as view_module
from ucloud.store.view import View

MakeView = Callable[..., View]


def host(id: str, name: str = "n") -> Host:
    return Host(id=id, name=name, created="2026-01-01T00:00:00.000Z")


@pytest.fixture
def make_view(world: World) -> Iterator[MakeView]:
    views: list[View] = []

    def make(*prefixes: str) -> View:
        views.append(View(world.store, prefixes or ("host/",), world.clock, lambda: None))
        return views[-1]

    yield make
    for view in views:
        view.close()


def put(world: World, *records: Host) -> int:
    return world.store.commit({record.key: encode(record) for record in records})


def sees(world: World, view: View, condition: Callable[[], bool]) -> None:
    def refreshed() -> bool:
        view.refresh()
        return condition()

    world.wait_for(refreshed)


def test_what_nobody_here_asks_for_is_not_kept(world: World) -> None:
    """Whether it is listed or watched."""
    view = View(world.store, ["host/"], world.clock, lambda: None, without=(Host,))
    put(world, host("a"))
    view.refresh()
    revision = put(world, host("b"))
    sees(world, view, lambda: view.seen("host/") == revision)
    assert (dict(view.all(Host)), view.changed) == ({}, set())
    view.close()


def test_it_says_what_changed_last(world: World, make_view: MakeView) -> None:
    view = make_view()
    put(world, host("a"), host("b"))
    view.refresh()
    assert view.changed == {"host/a", "host/b"}
    put(world, host("b", "new"))
    sees(world, view, lambda: view.changed == {"host/b"})
    world.store.commit(deletes=["host/a"])
    view.distrust()
    view.refresh()
    assert "host/a" in view.changed, "also when it was missed by the watch and is seen by listing"
    view.refresh()
    assert view.changed <= {"host/a"}, "the watch may say it once more"


def test_it_lists_and_then_follows(world: World, make_view: MakeView) -> None:
    view = make_view()
    assert view.age_s == float("inf")
    assert view.all(Host) == {}
    first = put(world, host("b"), host("a"))
    view.refresh()
    assert list(view.all(Host)) == ["host/a", "host/b"]
    assert view.seen("host/") == view.seen("host/a") == first
    second = put(world, host("aa"), host("b", "new"))
    sees(world, view, lambda: view.seen("host/") == second)
    assert list(view.all(Host)) == ["host/a", "host/aa", "host/b"]
    fact = view.get(Host, "host/b")
    assert fact
    assert (fact.record.name, fact.revision) == ("new", second)
    third = world.store.commit(deletes=["host/a"])
    sees(world, view, lambda: view.seen("host/") == third)
    assert list(view.all(Host)) == ["host/aa", "host/b"]
    assert view.get(Host, "host/a") is None


def test_records_of_several_types_and_prefixes(world: World, make_view: MakeView) -> None:
    inventory = Inventory(host="h1", cpus=1, memory_mib=2, hypervisor="fake", accel="none", version="0")
    alive = Alive(host="h1", boot="1")
    world.store.commit({record.key: encode(record) for record in (inventory, alive, host("h1"))} | {"status/h1/new": b"?"})
    view = make_view("status/h1/", "alive/h1")
    view.refresh()
    assert list(view.all(Inventory)) == ["status/h1/inventory"]
    assert list(view.all(Alive)) == ["alive/h1"]
    assert view.all(Host) == {}
    assert view.watches("status/h1/vm/a")
    assert not view.watches("host/h1")
    with pytest.raises(AssertionError):
        view.seen("host/")


def test_what_it_has_seen_is_a_requirement_that_holds_until_something_changes(world: World, make_view: MakeView) -> None:
    put(world, host("a"))
    view = make_view()
    view.refresh()
    world.store.commit({"pool/x": b"elsewhere"})
    world.store.commit(requires=[NotNewer("host/", view.seen("host/"))])
    fact = view.get(Host, "host/a")
    assert fact
    world.store.commit(requires=[Unchanged("host/a", fact.revision)])


def test_after_compaction_it_lists_again_and_notices_deletions(world: World, make_view: MakeView) -> None:
    put(world, host("a"), host("b"), host("c"))
    view = make_view()
    view.refresh()
    kept = view.get(Host, "host/a")
    view.close()  # as when its member dies; what happens now is compacted before it can watch again
    world.store.commit(deletes=["host/b"])
    last = put(world, host("c", "new"), host("d"))
    world.store.compact(last)
    sees(world, view, lambda: list(view.all(Host)) == ["host/a", "host/c", "host/d"])
    assert view.all(Host)["host/c"].record.name == "new"
    assert view.get(Host, "host/a") is kept
    final = world.store.commit(deletes=["host/d"])
    sees(world, view, lambda: view.seen("host/") == final)
    assert list(view.all(Host)) == ["host/a", "host/c"]


def test_a_broken_watch_resumes_where_it_was(world: World, make_view: MakeView) -> None:
    put(world, host("a"), host("b"))
    view = make_view()
    view.refresh()
    view.close()
    last = world.store.commit({"host/c": encode(host("c"))}, deletes=["host/a"])
    sees(world, view, lambda: view.seen("host/") == last)
    assert list(view.all(Host)) == ["host/b", "host/c"]


def test_after_a_lost_answer_it_lists_before_it_answers(world: World, make_view: MakeView) -> None:
    view = make_view()
    view.refresh()
    revision = put(world, host("a"))
    view.distrust()
    view.refresh()
    assert list(view.all(Host)) == ["host/a"]
    assert view.seen("host/") == revision


def test_a_bad_record_is_left_out_and_named(world: World, make_view: MakeView) -> None:
    put(world, host("a"), host("b"))
    view = make_view("host/", "nothing-that-we-know/")
    world.store.commit({"host/b": b'{"id": 7}', "host/c": b"\xff", "host/d": b"[]", "nothing-that-we-know/x": b""})
    view.refresh()
    assert list(view.all(Host)) == ["host/a"]
    assert set(view.bad) == {"host/b", "host/c", "host/d"}
    put(world, host("b"))
    world.store.commit({"host/a": b"{"}, deletes=["host/c"])
    sees(world, view, lambda: set(view.bad) == {"host/a", "host/d"})
    assert list(view.all(Host)) == ["host/b"]
    world.store.commit(deletes=["host/a"])
    view.distrust()
    view.refresh()
    assert set(view.bad) == {"host/d"}


def test_a_record_that_makes_no_sense_is_left_out_too(world: World, make_view: MakeView) -> None:
    bad = {"host/b": encode(host("a")), "host/c": b'{"id":' + b"[" * 100_000, "host/\udcff": encode(host("a"))}
    view = make_view()
    view.refresh()
    world.store.commit(bad)
    put(world, host("a"))
    sees(world, view, lambda: list(view.all(Host)) == ["host/a"])
    assert set(view.bad) == set(bad)
    view.distrust()
    view.refresh()
    assert set(view.bad) == set(bad)


def test_unknown_fields_survive_a_write(world: World, make_view: MakeView) -> None:
    world.store.commit({"host/a": b'{"id":"a","name":"a","created":"","of_tomorrow":{"x":[1,null]}}'})
    view = make_view()
    view.refresh()
    assert view.unknown("host/a") == {"of_tomorrow": {"x": [1, None]}}
    assert view.unknown("host/b") == {}
    revision = world.store.commit({"host/a": view.encode(host("a", "renamed"))})
    sees(world, view, lambda: view.seen("host/") == revision)
    assert view.all(Host)["host/a"].record.name == "renamed"
    assert view.unknown("host/a") == {"of_tomorrow": {"x": [1, None]}}


def test_age_grows_and_signs_of_life_make_it_young(world: World, make_view: MakeView) -> None:
    view = make_view()
    view.refresh()
    young_s = view.age_s
    world.wait_for(lambda: view.age_s > young_s + 1)
    sees(world, view, lambda: view.age_s < 1)


def test_it_lists_page_by_page_as_of_one_revision(world: World, make_view: MakeView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "PAGE", 3)
    put(world, *(host(f"{number:02}") for number in range(10)))
    pool = Pool(name="x", path="/x", created="")
    revision = world.store.commit({pool.key: encode(pool)})
    view = make_view("host/", "pool/")
    view.refresh()
    assert len(view.all(Host)) == 10
    assert len(view.all(Pool)) == 1
    assert view.seen("host/") == view.seen("pool/") == revision


class Broken:
    """A watch whose member is away, however often it is asked."""

    def poll(self) -> list[object]:
        raise Temporary("away")

    def close(self) -> None:
        pass


def test_a_watch_that_breaks_once_is_renewed_and_one_that_stays_broken_is_said(
    world: World, make_view: MakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world, host("a"))
    view = make_view()
    view.refresh()
    view.close()
    monkeypatch.setattr(world.store, "watch", lambda after, wake: Broken())
    outcomes = []
    for _ in itertools.repeat(None, 4):
        try:
            view.refresh()
            outcomes.append("fine")
        except Temporary:
            outcomes.append("temporary")
    assert outcomes == ["fine", "temporary", "temporary", "temporary"]
    monkeypatch.undo()
    revision = put(world, host("b"))
    sees(world, view, lambda: view.seen("host/") == revision)
    assert list(view.all(Host)) == ["host/a", "host/b"]


def test_it_covers_other_prefixes(world: World, make_view: MakeView) -> None:
    view = make_view()
    view.cover([])
    view.refresh()
    assert not view.all(Host)
    put(world, host("a"))
    world.store.commit({"pool/p": encode(Pool(name="p", path="/p", created="2026-01-01T00:00:00.000Z"))})
    view.cover(["host/"])
    view.refresh()
    assert (view.changed, list(view.all(Host))) == ({"host/a"}, ["host/a"])
    view.cover(["host/", "pool/"])
    view.refresh()
    assert (view.changed, list(view.all(Pool))) == ({"pool/p"}, ["pool/p"])
    put(world, host("b"))
    sees(world, view, lambda: list(view.all(Host)) == ["host/a", "host/b"])
    view.cover(["pool/"])
    view.refresh()
    assert (view.changed, list(view.all(Host))) == ({"host/a", "host/b"}, [])
    put(world, host("c"))
    world.store.commit(deletes=["pool/p"])
    sees(world, view, lambda: not view.all(Pool))
    assert not view.all(Host)
