"""Input of a request, taken apart and checked. What is wrong with each field is collected and said at once."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from flask import request

from ucloud.base.errors import Invalid
from ucloud.base.ids import is_name

NAME_RULE = "1 to 63 of a-z, 0-9 and -, not starting or ending with -, and not of the form of an id"
MAX_LABELS = 16
MAX_LABELS_TEXT = 400  # characters of all labels together: they are part of the VM's record
LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?)?")
SHA256 = re.compile(r"[0-9a-f]{64}")
REQUIRED: Any = object()

T = TypeVar("T")


def json_body() -> dict[str, Any]:
    """The body as an object; no body at all is an empty one. Raises Invalid."""
    data = request.get_data(cache=True)
    if not data:
        return {}
    if request.mimetype != "application/json":
        raise Invalid("send the body as JSON, with Content-Type: application/json")
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
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


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


class Fields:
    """Each method takes one field; `done` raises Invalid if any was bad, or if fields are left that nobody took.

    A bad field is answered with an empty value, so that the other fields can be looked at too.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = dict(values)
        self._bad: dict[str, object] = {}

    def name(self, field: str = "name") -> str:
        return self._checked(field, REQUIRED, "", lambda v: isinstance(v, str) and is_name(v), f"must be {NAME_RULE}")

    def text(self, field: str, default: Any = REQUIRED, max_length: int = 200) -> str:
        rule = f"must be a text of 1 to {max_length} printable characters"
        return self._checked(
            field, default, "", lambda v: isinstance(v, str) and 0 < len(v) <= max_length and v.isprintable(), rule
        )

    def sha256(self, field: str = "sha256") -> str:
        rule = "must be a SHA-256: 64 of 0-9 and a-f"
        return self._checked(field, REQUIRED, "", lambda v: isinstance(v, str) and SHA256.fullmatch(v) is not None, rule)

    def integer(self, field: str, low: int, high: int, default: Any = REQUIRED) -> int:
        rule = f"must be a whole number from {low} to {high}"
        return self._checked(field, default, low, lambda v: type(v) is int and low <= v <= high, rule)

    def boolean(self, field: str, default: Any) -> bool:
        return self._checked(field, default, False, lambda v: isinstance(v, bool), "must be true or false")

    def labels(self, field: str = "labels", default: Any = {}) -> dict[str, str]:  # noqa: B006 (nobody changes it)
        rule = (
            f"must be at most {MAX_LABELS} pairs of texts of A-Z, a-z, 0-9, ., _, / and -, which start and end with a letter or"
            f" digit, 63 characters each and {MAX_LABELS_TEXT} in all"
        )
        return self._checked(field, default, {}, are_labels, rule)

    def refuse(self, field: str, why: str) -> None:
        self._bad.setdefault(field, why)

    def done(self) -> None:
        for field in self._left:
            self._bad[field[:100]] = "unknown field"
        if self._bad:
            raise Invalid("; ".join(f"{field}: {why}" for field, why in list(self._bad.items())[:5]), self._bad)

    def _checked(self, field: str, default: Any, empty: T, fits: Callable[[Any], bool], rule: str) -> T:
        if field not in self._left:
            if default is not REQUIRED:
                return cast(T, default)
            self._bad[field] = f"is missing; it {rule}"
            return empty
        value = self._left.pop(field)
        if fits(value):
            return cast(T, value)
        self._bad[field] = rule
        return empty


def are_labels(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_LABELS
        and all(isinstance(v, str) and LABEL_KEY.fullmatch(k) and LABEL_VALUE.fullmatch(v) for k, v in value.items())
        and sum(len(k) + len(v) for k, v in value.items()) <= MAX_LABELS_TEXT
    )


def query(*allowed: str) -> dict[str, str]:
    """The parameters of the URL, each given once at most. Raises Invalid."""
    bad = {name: "unknown parameter" for name in request.args if name not in allowed}
    bad |= {name: "given more than once" for name, values in request.args.lists() if name in allowed and len(values) > 1}
    if bad:
        raise Invalid("; ".join(f"{name}: {why}" for name, why in bad.items()), bad)
    return request.args.to_dict()
