"""Every set of things that a host has keeps the promises of `ucloud.driver.things`."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from metadatas import metadata
from overlays import plugs, segments
from packetfilters import filters, taken, zones
from resolvers import names, reservations, services
from things import Subject, fake, fake_in_a_file

from ucloud.base.errors import Temporary

SUBJECTS: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
    "fake": fake,
    "fake in a file": fake_in_a_file,
    "segments": segments,
    "plugs": plugs,
    "services": services,
    "reservations": reservations,
    "names": names,
    "zones": zones,
    "filters": filters,
    "taken": taken,
    "metadata": metadata,
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if not request.param.startswith("fake") and os.geteuid() != 0:
        pytest.skip("needs root")
    with SUBJECTS[request.param]() as subject:
        yield subject


def test_what_was_added_is_there_for_the_next_daemon_too(subject: Subject) -> None:
    assert subject.make().actual() == {}
    subject.make().add([subject.one, subject.other])
    assert subject.make().actual() == {subject.one.key: subject.one, subject.other.key: subject.other}


def test_adding_nothing_and_removing_nothing_is_nothing(subject: Subject) -> None:
    subject.make().add([])
    subject.make().remove([])
    assert subject.make().actual() == {}


def test_adding_again_changes_nothing(subject: Subject) -> None:
    things = subject.make()
    things.add([subject.one])
    things.add([subject.one, subject.other])
    things.add([subject.other])
    assert things.actual() == {subject.one.key: subject.one, subject.other.key: subject.other}


def test_adding_another_state_changes_it_there_and_back(subject: Subject) -> None:
    things = subject.make()
    assert subject.changed.key == subject.one.key
    for state in (subject.one, subject.changed, subject.one):
        things.add([state])
        assert things.actual() == {subject.one.key: state}


def test_what_is_removed_leaves_nothing_and_takes_nothing_along(subject: Subject) -> None:
    things = subject.make()
    things.add([subject.one, subject.other])
    things.remove([subject.one.key])
    assert things.actual() == {subject.other.key: subject.other}
    things.remove([subject.one.key, subject.other.key])
    things.remove([subject.one.key])
    assert things.actual() == {}


def test_damage_is_seen_and_repaired(subject: Subject) -> None:
    things = subject.make()
    for name, damage in subject.damages.items():
        things.add([subject.one, subject.other])
        damage()
        seen = subject.make().actual()
        assert seen.get(subject.one.key) != subject.one, name
        assert seen[subject.other.key] == subject.other, name
        things.add([subject.one])
        things.remove([key for key in things.actual() if key not in (subject.one.key, subject.other.key)])
        assert things.actual() == {subject.one.key: subject.one, subject.other.key: subject.other}, name


def test_what_is_damaged_can_be_removed(subject: Subject) -> None:
    things = subject.make()
    for name, damage in subject.damages.items():
        things.add([subject.one])
        damage()
        things.remove([subject.one.key])
        things.remove(list(things.actual()))
        assert things.actual() == {}, name


def test_strays_are_seen_and_can_be_removed(subject: Subject) -> None:
    things = subject.make()
    for name, stray in subject.strays.items():
        things.add([subject.one])
        stray()
        strays = {key: thing for key, thing in subject.make().actual().items() if key != subject.one.key}
        assert list(strays.values()) == [None], name
        things.remove(list(strays))
        assert things.actual() == {subject.one.key: subject.one}, name


def test_what_the_system_refuses_is_said_and_done_later(subject: Subject) -> None:
    things = subject.make()
    things.add([subject.one])
    allow = subject.refuse()
    with pytest.raises(Temporary, match=r"\w"):
        things.add([subject.other])
    assert things.actual().get(subject.other.key) is None
    assert things.actual()[subject.one.key] == subject.one
    allow()
    things.add([subject.other])
    assert things.actual() == {subject.one.key: subject.one, subject.other.key: subject.other}
