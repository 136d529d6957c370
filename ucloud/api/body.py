"""Input of a request, made a struct. What is wrong with each field is collected and said at once.

Called by `ucloud.api.describe` for every route; the structs stand beside the routes, their types in `ucloud.api.fields`.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from flask import request
from msgspec import UNSET, Struct
from werkzeug.exceptions import UnsupportedMediaType

from ucloud.api.fields import fits_of, plain, rule_of
from ucloud.base.errors import Invalid

S = TypeVar("S", bound=Struct)

MAX_BODY_BYTES = 1024 * 1024  # of JSON; uploads of images are streamed and have their own limit
MAX_NAMED = 5  # of the bad fields, in the message; `details` has all


class Field(NamedTuple):
    name: str
    type: Any
    required: bool
    default: Any
    rule: str
    fits: Callable[[Any], bool]


@functools.cache
def fields_of(kind: type[Struct]) -> Mapping[str, Field]:
    """By the name that stands in JSON."""
    return {
        field.encode_name: Field(
            field.name, plain(field.type), field.required, field.default, rule_of(field.type), fits_of(field.type)
        )
        for field in msgspec.structs.fields(kind)
    }


def read_body(kind: type[S]) -> S:
    """Raises Invalid."""
    return convert(_json_object(), kind, strict=True)


def read_query(kind: type[S]) -> S:
    """The parameters of the URL, each given once at most. Raises Invalid."""
    known = fields_of(kind)
    twice = {name: "given more than once" for name, values in request.args.lists() if name in known and len(values) > 1}
    return convert(request.args.to_dict(), kind, strict=False, bad=twice)


def convert(values: Mapping[str, Any], kind: type[S], strict: bool, bad: Mapping[str, object] = {}) -> S:
    """Field by field, as msgspec alone would stop at the first bad one. strict: numbers are no texts. Raises Invalid."""
    good: dict[str, Any] = {}
    wrong = dict(bad)
    known = fields_of(kind)
    for name, field in known.items():
        if name not in values:
            if field.required:
                wrong[name] = f"is missing; it must be {field.rule}"
            continue
        try:
            good[field.name] = msgspec.convert(values[name], field.type, strict=strict)
        except msgspec.ValidationError:
            wrong.setdefault(name, f"must be {field.rule}")
        else:
            if not field.fits(good[field.name]):
                wrong.setdefault(name, f"must be {field.rule}")
    wrong |= {name[:100]: "unknown field" for name in values if name not in known}
    if wrong:
        raise Invalid("; ".join(f"{name}: {why}" for name, why in list(wrong.items())[:MAX_NAMED]), wrong)
    if len(good) < least(kind):
        raise Invalid(f"name at least one of {', '.join(known)}", dict.fromkeys(known, "is missing"))
    return kind(**good)


def least(kind: type[Struct]) -> int:
    """How many fields must be there, whichever: 1 of a struct that says `at_least_one`."""
    return int(getattr(kind, "at_least_one", False))


def given(struct: Struct) -> dict[str, Any]:
    """The fields that were not left out."""
    values = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in values.items() if value is not UNSET}


def _json_object() -> dict[str, Any]:
    """No body at all is an empty object. Raises Invalid."""
    data = request.get_data(cache=True)
    if not data:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send the body as JSON, with Content-Type: application/json")
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_float=_number, parse_constant=_no_constant)
        if b"\\u" in data:
            json.dumps(body, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
    except RecursionError:
        raise Invalid("the body is nested too deeply") from None
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object")
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object names a field twice")
    return result


def _number(text: str) -> float:
    """1.0 is a whole number, as JSON Schema has it."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
