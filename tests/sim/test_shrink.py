"""A history in which something was found becomes a smaller one in which the same is found."""

from sim.campaign import failure, replay_command
from sim.cloud import Knobs
from sim.shrink import alike, shrink

OFF = "requirements"


def test_what_is_left_is_smaller_and_finds_the_same() -> None:
    found = failure(0, OFF)
    seed, knobs = shrink(0, OFF, Knobs())
    assert alike(failure(seed, OFF, knobs=knobs), found)
    assert (knobs.hosts, knobs.controls, knobs.apis) == (1, 1, 1)
    assert f"--trace {seed} --off {OFF} --knobs" in replay_command(seed, OFF, knobs)


def test_what_finds_nothing_stays_as_it_is() -> None:
    assert shrink(0, None, Knobs()) == (0, Knobs())


def test_numbers_and_names_do_not_tell_violations_apart() -> None:
    assert alike("h1 kills vm-01abc boot 3", "h10 kills vm-02def boot 4")
    assert not alike("h1 kills vm-01abc", "h1 starts vm-01abc")
    assert not alike(None, None)
