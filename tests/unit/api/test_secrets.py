"""What is secret never leaves, in whatever record it is, and whoever wrote it."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from tests.unit.api.cloud import Cloud
from ucloud.model.host import Endpoint
from ucloud.model.kinds import KINDS, STATUS_KINDS
from ucloud.model.record import Record
from ucloud.model.secret import HIDDEN, Secret, fields_of, without_secrets

WORD = "open sesame"


class Inner(msgspec.Struct):
    note: str
    deep: dict[str, tuple[Secret, ...]]


class Outer(Record, frozen=True, kw_only=True):
    """Secrets in all the places that a type can have."""

    name: str
    plain: Secret
    maybe: Secret | None = None
    many: list[Secret] = []
    pair: tuple[str, Secret] | None = None
    by_name: dict[str, Secret] = {}
    inner: Inner | None = None
    renamed: Secret | None = msgspec.field(name="from", default=None)


def kinds() -> Iterator[tuple[str, type[Record]]]:
    yield from ((f"{prefix}/x", kind) for prefix, kind in KINDS.items())
    yield from ((f"status/x/{name}", kind) for name, kind in STATUS_KINDS.items())


def sample(type: inspect.Type) -> Any:
    """A JSON value of that type, with the word wherever a Secret is."""
    match type:
        case inspect.StructType(cls=cls) if cls is Secret:
            return {"secret": WORD}
        case inspect.StructType(fields=fields):
            return {field.encode_name: sample(field.type) for field in fields}
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [sample(item)]
        case inspect.TupleType(item_types=items):
            return [sample(item) for item in items]
        case inspect.DictType(value_type=value):
            return {"key": sample(value)}
        case inspect.UnionType(types=types):
            return sample(next(member for member in types if not isinstance(member, inspect.NoneType)))
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.IntType():
            return 1
        case inspect.BoolType():
            return True
    return "shown"


@pytest.mark.parametrize(("key", "kind"), list(kinds()))
def test_no_record_leaks(cloud: Cloud, key: str, kind: type[Record]) -> None:
    """As written by this version, by one that stores secrets otherwise, and by one that has more fields."""
    whole = sample(inspect.type_info(kind))
    has_secret = WORD in json.dumps(whole)
    otherwise = {name: WORD if fields_of(kind)[name] else value for name, value in whole.items()}
    more = {**whole, "later": WORD} if has_secret else whole
    for value in (whole, otherwise, more, {"later": {"token": {"secret": WORD}}}):
        cloud.store.commit({key: json.dumps(value).encode()})
        answer = cloud.http.get(f"/v1/internal/{key}")
        assert answer.status_code == 200
        assert WORD not in answer.text
    if not has_secret:
        cloud.store.commit({key: json.dumps({"later": "shown"}).encode()})
        assert "shown" in cloud.http.get(f"/v1/internal/{key}").text


def test_a_secret_is_found_wherever_it_is() -> None:
    value = sample(inspect.type_info(Outer))
    assert json.dumps(value).count(WORD) == 7
    shown = without_secrets({**value, "later": WORD}, Outer)
    assert shown == dict.fromkeys(shown, HIDDEN) | {"name": "shown"}
    assert WORD not in json.dumps(without_secrets(value))
    for strange in (WORD.encode().hex(), [value], None, 7):
        assert WORD not in json.dumps(without_secrets(strange, Outer))


def test_there_is_a_secret_to_be_found() -> None:
    assert fields_of(Endpoint)["token"]
    assert not fields_of(Endpoint)["url"]
