"""Sets of things and who wants them: added in order, removed in reverse, mended, through failures."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud.base.errors import Temporary
from ucloud.driver.things import FakeThings
from ucloud.host.wiring import Set, Wiring
from ucloud.model.wiring import HostName, Plug, Segment, Thing


def segment(vni: int, mtu: int = 1430) -> Segment:
    return Segment(vni=vni, group=f"ff05::{vni:x}", mtu=mtu, gateways=("fd00::1/64",), public=False)


def name(vm: str, text: str = "web") -> HostName:
    return HostName(vm=vm, vni=1, name=text, addresses=("fd00::2",))


class World:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.zones, self.segments, self.names = (FakeThings(name) for name in ("zone", "network", "name"))
        for things in (self.zones, self.segments, self.names):
            things.before = lambda call, things=things: self.log.append(f"{call} {things.name}")  # type: ignore[misc]

    def wiring(self) -> Wiring:
        """As of a daemon that starts."""
        return Wiring([Set(Segment, self.zones), Set(Segment, self.segments), Set(HostName, self.names)])

    @property
    def acts(self) -> list[str]:
        done = [line for line in self.log if not line.startswith("actual")]
        self.log.clear()
        return done

    def there(self) -> list[Thing | None]:
        assert self.zones.world == self.segments.world
        return [*self.segments.world.values(), *self.names.world.values()]


def test_things_are_added_in_order_and_removed_in_reverse() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [name("a"), segment(1)])
    assert world.acts == ["add zone", "add network", "add name"]
    assert world.there() == [segment(1), name("a")]
    wiring.want("a", [])
    assert world.acts == ["remove name", "remove network", "remove zone"]
    assert world.there() == []


def test_what_is_there_is_left_alone_and_what_somebody_else_wants_stays() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [segment(1)])
    assert world.acts
    wiring.want("b", [segment(1)])
    wiring.want("a", [])
    wiring.want("b", [segment(1)])
    assert world.acts == []
    wiring.want("b", [])
    assert world.there() == []


def test_the_last_word_on_a_thing_counts() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [segment(1)])
    wiring.want("b", [segment(1, mtu=1400)])
    assert world.there() == [segment(1, mtu=1400)]
    wiring.want("a", [segment(1, mtu=1350)])
    assert world.there() == [segment(1, mtu=1350)]
    wiring.want("a", [])
    wiring.mend()
    assert world.there() == [segment(1, mtu=1400)]


def test_after_a_failure_the_same_call_goes_on() -> None:
    world = World()
    wiring = world.wiring()
    world.segments.fail_next("add")
    with pytest.raises(Temporary):
        wiring.want("a", [segment(1), name("a")])
    wiring.want("a", [segment(1), name("a")])
    assert world.there() == [segment(1), name("a")]
    world.segments.fail_next("remove")
    with pytest.raises(Temporary):
        wiring.want("a", [])
    assert world.segments.world
    wiring.want("a", [])
    assert world.there() == []


def test_what_changed_by_hand_is_mended_and_said() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [segment(1), segment(2), name("a")])
    world.segments.world.pop("1")
    world.names.damage("1/a")
    world.segments.world["3"] = world.zones.world["3"] = segment(3)
    assert wiring.mend() == ([("network", segment(1)), ("name", name("a"))], [])
    assert world.there() == [segment(2), segment(1), name("a")]
    assert wiring.mend() == ([], [])


def test_of_networks_of_vms_that_nobody_knows_nothing_is_removed() -> None:
    """Found by the simulator: a VM whose manifest a hand had spoiled lost its network."""
    world = World()
    world.wiring().want("a", [segment(1), segment(2), name("a")])
    wiring = world.wiring()
    wiring.mend(spared=["a"])
    assert world.there() == [segment(1), name("a")]
    wiring.mend()
    assert world.there() == []


def test_one_that_cannot_be_mended_does_not_keep_others_from_it() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [segment(1), segment(2)])
    world.segments.world.clear()
    world.segments.fail_next("add")
    mended, failed = wiring.mend()
    assert (mended, failed) == ([("network", segment(2))], [("network", segment(1), "add of a network failed")])
    assert wiring.mend()[1] == []
    assert [thing.key for thing in world.segments.world.values() if thing] == ["2", "1"]


def test_what_cannot_be_mended_keeps_what_rests_on_it_waiting() -> None:
    """Found by the simulator: a host that came back plugged VMs in before their filters were there."""
    world = World()
    world.wiring().want("a", [name("a"), segment(1), segment(2)])
    world.segments.world.clear()
    world.names.world.clear()
    wiring = world.wiring()
    wiring.note("a", [name("a"), segment(1), segment(2)])
    world.segments.fail_next("add")
    assert wiring.mend().failed == [("network", segment(1), "add of a network failed")]
    assert world.names.world == {}
    wiring.mend()
    assert world.there() == [segment(2), segment(1), name("a")]


def test_what_an_earlier_daemon_made_for_a_vm_goes_with_it() -> None:
    """Found by the simulator: a host said that nothing of a VM was left, and had its port."""
    world = World()
    world.wiring().want("a", [segment(1), name("a"), name("b")])
    wiring = world.wiring()
    wiring.note("b", [segment(1), name("b")])
    wiring.clear("a")
    assert world.there() == [segment(1), name("b")]


def test_what_cannot_be_removed_is_only_its_own_users_trouble() -> None:
    world = World()
    wiring = world.wiring()
    wiring.want("a", [segment(1), name("a")])
    wiring.want("b", [segment(2)])
    world.names.before = refuse
    for _ in range(2):
        with pytest.raises(Temporary):
            wiring.want("a", [])
        wiring.want("b", [segment(3)])
        wiring.want("b", [segment(2)])
    assert world.there() == [segment(1), segment(2), name("a")], "what it rests on stays, too"
    world.names.before = lambda call: None
    wiring.want("a", [])
    assert world.there() == [segment(2)]


def refuse(call: str) -> None:
    if call == "remove":
        raise Temporary("it does not go")


def test_a_network_stays_while_something_is_plugged_into_it() -> None:
    """A plug that could not be removed, of a VM of which nothing can be read since: the other's end is not its network's."""
    plug = Plug(vm="a", vni=1, mac="02:00:00:00:00:01", mtu=1430, addresses=("fd00::2",), public=False)
    segments, plugs = FakeThings("network"), FakeThings("port")
    wiring = Wiring([Set(Segment, segments), Set(Plug, plugs)])
    wiring.want("a", [segment(1), plug])
    wiring.want("b", [segment(1)])
    plugs.fail_next("remove")
    with pytest.raises(Temporary):
        wiring.clear("a")
    wiring.clear("b")
    assert (list(segments.world), list(plugs.world)) == (["1"], ["1/a"])
    wiring.mend(spared=["a"])
    assert (list(segments.world), list(plugs.world)) == (["1"], ["1/a"])
    wiring.mend()
    assert (list(segments.world), list(plugs.world)) == ([], [])


def test_what_an_earlier_daemon_left_is_taken_over_or_removed() -> None:
    world = World()
    world.wiring().want("a", [segment(1), segment(2)])
    again = world.wiring()
    again.note("a", [segment(1)])
    assert world.acts
    assert again.mend() == ([], [])
    assert world.acts == ["remove network", "remove zone"]
    assert world.there() == [segment(1)]


USERS = st.sampled_from("abc")
THINGS = st.lists(st.builds(segment, st.integers(1, 3), st.sampled_from([1400, 1430])) | st.builds(name, USERS), max_size=4)
STEPS = st.lists(st.tuples(USERS, THINGS, st.sampled_from(["", "add", "remove", "actual"])), max_size=12)


@given(STEPS)
def test_whatever_fails_in_the_end_there_is_what_is_wanted(steps: Sequence[tuple[str, list[Thing], str]]) -> None:
    world = World()
    wiring, wants = world.wiring(), dict[str, list[Thing]]()
    for user, things, failing in steps:
        if failing:
            world.segments.fail_next(failing)
        wants[user] = things
        try:
            wiring.want(user, things)
        except Temporary:
            wiring.note(user, things)
    world.segments.before = lambda call: None
    wiring.mend()
    assert wiring.mend() == ([], [])
    wanted = {(type(thing), thing.key) for things in wants.values() for thing in things}
    assert {(type(thing), thing.key) for thing in world.there() if thing} == wanted
    assert None not in world.there()
