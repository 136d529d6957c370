"""What an answer holds, whatever the format that it belongs to. Used by `answers.py` and the formats."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

TEXT, JSON, YAML, BYTES = "text/plain; charset=utf-8", "application/json", "application/yaml", "application/octet-stream"


class Content(NamedTuple):
    body: bytes
    type: str = TEXT


def text(value: str) -> Content:
    """Without a newline: this is the value, to the byte."""
    return Content(value.encode())


def lines(values: Iterable[str]) -> Content:
    return text("".join(f"{value}\n" for value in values))


def json(value: Any) -> Content:
    return Content(msgspec.json.format(msgspec.json.encode(value)) + b"\n", JSON)
