"""Who asks, found by the address that it asks from."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.metadata.told import told
from ucloud.driver.metadata.files import MetadataFiles
from ucloud.metadata.index import MAX_REST_S, REST, Index
from ucloud.model.wiring import Metadata

WEB, DB = told(1), told(2)


class Files:
    """Counts how often somebody looked; a look takes a while where a test says so."""

    def __init__(self, *things: Metadata) -> None:
        self.things, self.looks, self.look_s, self.now_s = things, 0, 0.0, 0.0
        self.time_ns = 1

    def changed_ns(self) -> int:
        return self.time_ns

    def actual(self) -> Mapping[str, Metadata | None]:
        self.looks += 1
        self.now_s += self.look_s
        return {**{thing.key: thing for thing in self.things}, "1/damaged": None}

    def put(self, *things: Metadata) -> None:
        self.things = things
        self.time_ns += 1


def index(files: Files) -> Index:
    return Index(files, lambda: files.now_s)


def test_by_each_of_its_addresses() -> None:
    known = index(Files(WEB, DB))
    assert [known.find(source, 0) for source in ("fd00:1::1", "10.1.0.1", "::ffff:10.1.0.1")] == [WEB] * 3
    assert known.find("fd00:1:0:0:0::2", 7) == DB
    assert [known.find(source, 0) for source in ("fd00:1::3", "10.1.0.3", "::", "::ffff:0:0", "127.0.0.1")] == [None] * 5


def test_link_local_addresses_are_those_of_their_network() -> None:
    here, there = told(1, 1, link_local="fe80::7"), told(2, 0xAB, link_local="fe80::7")
    known = index(Files(here, there))
    assert [known.find("fe80::7", vni) for vni in (1, 0xAB, 2, 0)] == [here, there, None, None]


def test_what_two_claim_is_nobodys() -> None:
    thief = replace(DB, sources=(*DB.sources, "fd00:1::1"))
    known = index(Files(WEB, thief))
    assert [known.find(source, 1) for source in ("fd00:1::1", "fe80::1", "fd00:1::2")] == [None, WEB, thief]
    known = index(Files(WEB, thief, replace(told(3), sources=("fd00:1::1",))))
    assert known.find("fd00:1::1", 0) is None


def test_what_makes_no_sense_is_left_out() -> None:
    known = index(Files(replace(WEB, sources=("fe80::1%eth0", "nonsense")), DB))
    assert [known.find(source, 1) for source in ("fd00:1::1", "fe80::1", "fd00:1::2")] == [None, None, DB]


def test_it_looks_when_something_changed() -> None:
    files = Files(WEB)
    known = index(files)
    assert [known.find("fd00:1::1", 0) for _ in range(9)] == [WEB] * 9
    assert files.looks == 1
    moved = told(1, 2)
    files.put(moved)
    assert known.find("fd00:1::1", 0) is None
    assert known.find("fd00:2::1", 0) == moved
    assert files.looks == 2


def test_what_changed_a_moment_ago_may_change_unseen() -> None:
    """The kernel gives the same time to what happens within a tick."""
    files = Files(WEB)
    files.time_ns = time.time_ns()
    known = index(files)
    assert known.find("fd00:1::1", 0) == WEB
    files.things = ()
    assert known.find("fd00:1::1", 0) is None


def test_looking_takes_a_tenth_of_the_time() -> None:
    files = Files(WEB)
    files.look_s = 0.1
    known = index(files)
    assert known.find("fd00:1::1", 0) == WEB
    files.put()
    files.now_s += REST * 0.1 - 0.05
    assert known.find("fd00:1::1", 0) == WEB
    files.now_s += 0.1
    assert known.find("fd00:1::1", 0) is None


def test_a_look_that_was_stopped_for_an_hour_is_no_reason_to_rest_for_ten() -> None:
    files = Files(WEB)
    files.look_s = 3600.0
    known = index(files)
    assert known.find("fd00:1::1", 0) == WEB
    files.put(DB)
    files.now_s += MAX_REST_S + 0.1
    assert known.find("fd00:1::1", 0) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_of_the_system(tmp_path: Path) -> None:
    files = MetadataFiles(tmp_path / "metadata")
    files.add([WEB])
    known = Index(files)
    assert known.find("fd00:1::1", 0) == WEB
    files.remove([WEB.key])
    deadline_s = time.monotonic() + 30
    while known.find("fd00:1::1", 0):
        assert time.monotonic() < deadline_s
