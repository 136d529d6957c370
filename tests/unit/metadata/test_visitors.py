"""No guest keeps the metadata service from the others."""

import pytest

from ucloud.metadata import visitors
from ucloud.metadata.visitors import BURST, OPEN, PER_SECOND, Visitors


class Door:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.visitors = Visitors(lambda: self.now_s)

    def visit(self, address: str = "a") -> bool:
        """Comes, and leaves again."""
        may = self.visitors.may_enter(address)
        if may:
            self.visitors.leaves(address)
        return may


def test_so_many_at_once() -> None:
    door = Door()
    assert [door.visitors.may_enter("a") for _ in range(OPEN + 1)] == [True] * OPEN + [False]
    assert door.visitors.may_enter("b")
    door.visitors.leaves("a")
    assert [door.visitors.may_enter("a") for _ in range(2)] == [True, False]


def test_so_many_a_second() -> None:
    door = Door()
    assert [door.visit() for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert door.visit("b")
    door.now_s += 10 / PER_SECOND
    assert sum(door.visit() for _ in range(100)) == 10
    door.now_s += 3600
    assert sum(door.visit() for _ in range(2 * BURST)) == BURST


def test_who_is_not_remembered_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "ADDRESSES", 3)
    door = Door()
    assert [door.visit(address) for address in "abcd"] == [True, True, True, False]
    door.now_s += BURST / PER_SECOND + 1
    assert door.visitors.may_enter("a")
    assert [door.visit(address) for address in "def"] == [True, True, False]
    assert door.visitors.may_enter("a")
