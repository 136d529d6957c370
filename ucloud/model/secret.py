"""Text that never leaves through the API, and what is shown instead."""

import functools
from typing import Any

import msgspec
from msgspec import inspect

HIDDEN = "«secret»"


class Secret(msgspec.Struct, frozen=True):
    """Stored as {"secret": …}."""

    secret: str


def without_secrets(value: Any, kind: type[msgspec.Struct] | None = None) -> Any:
    """A stored JSON value, with every Secret blanked. kind: what it is a record of, if that is known: of a kind that has
    secrets, also blanks what this version does not know."""
    fields = fields_of(kind) if kind else {}
    if any(fields.values()) and isinstance(value, dict):
        value = {name: HIDDEN if fields.get(name, True) else v for name, v in value.items()}
    return _blank(value)


def _blank(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if name == "secret" else _blank(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_blank(v) for v in value]
    return value


@functools.cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, bool]:
    """By the name in JSON: whether a Secret is anywhere in the field."""
    return {field.encode_name: _holds_secret(inspect.type_info(field.type)) for field in msgspec.structs.fields(kind)}


def _holds_secret(type: inspect.Type) -> bool:
    if isinstance(type, inspect.StructType):
        return type.cls is Secret or any(_holds_secret(field.type) for field in type.fields)
    parts = [getattr(type, name, None) for name in ("type", "item_type", "key_type", "value_type")]
    parts += [*getattr(type, "types", ()), *getattr(type, "item_types", ())]
    return any(_holds_secret(part) for part in parts if isinstance(part, inspect.Type))
