"""Records: frozen structs, stored as JSON under one key each. Everything that ucloud knows is one of these.

Readers ignore fields that they don't know and writers keep them, so that daemons of neighbouring versions can live side
by side: `decode` hands out the unknown fields, `encode` takes them back.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`prefix` says where records of this type live: `vm/` + id. Fields at their default are not stored."""

    prefix: ClassVar[str]

    @classmethod
    def at(cls, *parts: str) -> str:
        """The key of the record of this type that these parts name: `Manifest.at(host, vm)`."""
        return cls.prefix + "/".join(parts)

    @property
    def key(self) -> str:
        raise NotImplementedError


R = TypeVar("R", bound=Record, covariant=True)


class Fact(msgspec.Struct, Generic[R], frozen=True):
    """A record as it was seen: `revision` is that of its last change (etcd: mod_revision), ≥ 1."""

    key: str
    record: R
    revision: int
    unknown: Mapping[str, Any] = {}


def decode(kind: type[R], value: bytes) -> tuple[R, dict[str, Any]]:
    """The record, and the fields that this version does not know. Raises msgspec.DecodeError (a ValidationError is one)."""
    try:
        raw = msgspec.json.decode(value, type=dict[str, Any])
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    record = msgspec.convert(raw, kind, strict=True)
    known = kind.__struct_encode_fields__
    return record, {name: value for name, value in raw.items() if name not in known}


def encode(record: Record, unknown: Mapping[str, Any] | None = None) -> bytes:
    """JSON in UTF-8, without spaces; `unknown` are the fields to keep from what stood there before."""
    if not unknown:
        return msgspec.json.encode(record)
    return msgspec.json.encode({**msgspec.to_builtins(record), **unknown})
