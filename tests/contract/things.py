"""What the tests of the contract `ucloud.driver.things` need of a kind of set, and the fake one. Real ones are made by the
modules beside this one; test_things.py names them all."""

import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ucloud.driver.things import FakeThings, Things
from ucloud.driver.things_file import ThingsFile, things_in
from ucloud.model.wiring import Segment, Thing

Action = Callable[[], object]


@dataclass(kw_only=True)
class Subject:
    """An empty set in a world of its own. make: the set, as the next daemon finds it. one, other: what can be in it. changed:
    `one` in another state. damages: what somebody may do to `one` by hand. strays: what somebody may leave there that is
    nobody's, and is taken for a part of the set. refuse: makes the system refuse `other`, until what it returns is called."""

    make: Callable[[], Things[Any]]
    one: Thing
    changed: Thing
    other: Thing
    refuse: Callable[[], Action]
    damages: dict[str, Action]
    strays: dict[str, Action] = field(default_factory=dict)


@contextmanager
def fake() -> Iterator[Subject]:
    yield pretended({})


@contextmanager
def fake_in_a_file() -> Iterator[Subject]:
    """A daemon may die while it writes a line."""
    with tempfile.TemporaryDirectory() as directory, closing(ThingsFile(file := Path(directory, "network"))) as world:
        yield pretended(world)
        with file.open("ab") as half_written:
            half_written.write(b'["7","Segm')
        with closing(ThingsFile(file)) as again:
            assert dict(again) == things_in(file) == dict(world)


def pretended(world: MutableMapping[str, Thing | None]) -> Subject:
    things = FakeThings("network", world)
    one = Segment(vni=1, group="ff05::1", mtu=1430, gateways=("fd00:1::1/64",), public=True)

    def refuse() -> Action:
        things.fail_next("add")
        return lambda: None

    return Subject(
        make=lambda: things,
        one=one,
        changed=Segment(vni=1, group="ff05::1", mtu=1400, gateways=("fd00:1::1/64",), public=False),
        other=Segment(vni=2, group="ff05::2", mtu=1430, gateways=("fd00:2::1/64",), public=True),
        refuse=refuse,
        damages={"a part is taken away": lambda: things.damage(one.key), "all is taken away": lambda: world.pop(one.key)},
        strays={"half a network": lambda: things.damage("7")},
    )
