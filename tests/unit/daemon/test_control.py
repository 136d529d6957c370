"""The table of control loops."""

from ucloud.daemon.control import LOOPS
from ucloud.model.bookkeeping import CONTROL_LOOPS


def test_every_loop_is_known_to_those_who_ask_whether_all_are_led() -> None:
    assert set(LOOPS) == set(CONTROL_LOOPS)
