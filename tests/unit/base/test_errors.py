"""The tree of errors is the one that its module draws."""

import re

import pytest

from ucloud.base import errors
from ucloud.base.errors import Error, Temporary

DRAWN = re.compile(r"^ +([│ ]*)[├└]── (\w+) +(\d{3})", re.MULTILINE)


def drawn() -> dict[str, tuple[str, int]]:
    """Class → the class that it hangs on, and its status, as the docstring draws them."""
    found: dict[str, tuple[str, int]] = {}
    above = "Error"
    for indent, name, status in DRAWN.findall(errors.__doc__ or ""):
        found[name] = (above if "│" in indent else "Error", int(status))
        above = above if "│" in indent else name
    return found


def defined() -> dict[str, type[Error]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Error) and kind is not Error
    }


def test_every_class_is_drawn_and_every_drawn_one_is_there() -> None:
    assert {name: (kind.__bases__[0].__name__, kind.http_status) for name, kind in defined().items()} == drawn()


@pytest.mark.parametrize("name", sorted(defined()))
def test_its_code_is_its_name_in_snake_case(name: str) -> None:
    assert defined()[name].code == re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_an_error_has_a_message_and_says_which_fields_are_wrong() -> None:
    error = errors.Invalid("no such image", {"image": "unknown"})
    assert (str(error), error.message, error.details) == ("no such image", "no such image", {"image": "unknown"})
    assert errors.Conflict("too late").details == {}


def test_temporary_says_when_to_try_again() -> None:
    assert Temporary("not now").retry_s == 1.0
    error = Temporary("not now", 5.0, {"etcd": "away"})
    assert (error.retry_s, error.details) == (5.0, {"etcd": "away"})


def test_what_is_raised_by_mistake_is_nobodys_fault_but_ours() -> None:
    assert (Error.http_status, Error.code) == (500, "internal")
