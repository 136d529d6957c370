"""Every record survives being stored and read, and fields of other versions survive both."""

from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud.model.kinds import KINDS, STATUS_KINDS
from ucloud.model.record import Record, decode, encode

TYPES = sorted({*KINDS.values(), *STATUS_KINDS.values()}, key=lambda kind: kind.__name__)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Of whatever a field may hold; hypothesis knows the rest by itself."""
    if annotation is str:
        return TEXT
    if annotation is int:
        return NUMBERS
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return structs(annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if get_origin(annotation) is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    return st.from_type(annotation)


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: values(field.type) for field in fields})


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
def test_a_record_survives_storing(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(structs(kind))
    assert decode(kind, encode(record)) == (record, {})


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
def test_unknown_fields_survive_a_change(kind: type[Record], data: st.DataObject) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = data.draw(st.dictionaries(TEXT.filter(lambda name: name not in known), JSON, max_size=3))
    before, after = data.draw(structs(kind)), data.draw(structs(kind))
    assert decode(kind, encode(before, unknown)) == (before, unknown)
    _, kept = decode(kind, encode(before, unknown))
    assert decode(kind, encode(after, kept)) == (after, unknown)
