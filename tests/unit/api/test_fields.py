"""The rules of fields, in words and as they are checked."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api.body import convert, given
from ucloud.api.fields import Cpus, HostWish, LabelFilter, Labels, Name, Path, Reference, Sha256, Spread, fits_of, rule_of
from ucloud.base.errors import Invalid


class Sample(Struct, frozen=True):
    name: Name
    cpus: Annotated[Cpus | UnsetType, Meta(description="cores")] = UNSET
    labels: Labels | UnsetType = UNSET
    mode: Literal["a", "b"] = "a"
    force: bool = False


def test_every_bad_field_is_named_with_its_rule() -> None:
    values = {"cpus": 0, "labels": {"": ""}, "mode": "c", "force": 1, "colour": "red"}
    with pytest.raises(Invalid) as caught:
        convert(values, Sample, strict=True)
    details = caught.value.details
    assert details["cpus"] == "must be a whole number from 1 to 1024"
    assert details["mode"] == "must be one of a, b"
    assert details["force"] == "must be true or false"
    assert details["colour"] == "unknown field"
    assert str(details["name"]).startswith("is missing; it must be 1 to 63")
    assert str(details["labels"]).startswith("must be at most 16 pairs")


def test_what_was_left_out_is_not_given() -> None:
    assert given(convert({"name": "web"}, Sample, strict=True)) == {"name": "web", "mode": "a", "force": False}
    assert given(convert({"name": "web", "cpus": "2"}, Sample, strict=False))["cpus"] == 2


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Name, ["a", "web-1", "a" * 63], ["", "-a", "a-", "A", "a\n", "a" * 64, "vm-01kam000000000000000000000", "é"]),
        (Reference, ["web", "vm-01kam000000000000000000000"], ["", "web\n", "../x", "a\0", "\ud800"]),
        (Labels, [{}, {"a.b/c": ""}, {"a": "B"}], [{"a": "b\n"}, {"a\n": ""}, {f"k{n}": "" for n in range(17)}, {"a": None}]),
        (Labels, [{"k" * 63: "v" * 63}], [{f"k{n}": "v" * 60 for n in range(7)}]),
        (LabelFilter, ["a", "a=", "a=b"], ["", "=b", "a=b=c", "a b", "a\n"]),
        (HostWish, ["h1", "rack=r1", "rack="], ["", "=", "H1", "a b=c", "h1\n"]),
        (Spread, ["web", "web@rack"], ["", "web@", "@rack", "Web", "-web", "web@rack\n"]),
        (Path, ["/", "/srv/pool", "/srv/ä b"], ["", "srv", "/a/../b", "/a\n", "/a\0", "/\u202e", "/" * 1001]),
        (Sha256, ["0" * 64], ["0" * 63, "G" * 64, "0" * 64 + "\n"]),
    ],
)
def test_types(kind: Any, good: list[Any], bad: list[Any]) -> None:
    def fits(value: Any) -> bool:
        try:
            return fits_of(kind)(msgspec.convert(value, kind))
        except msgspec.ValidationError:
            return False

    assert [value for value in good if not fits(value)] == []
    assert [value for value in bad if fits(value)] == []
    assert rule_of(kind)
