"""What a fake set has (`ucloud.driver.things.FakeThings`), in a file: for the next daemon, and for who looks from outside.

Each change is a line of JSON at its end, so that it costs what it is. Picked by daemon/drivers.py for hosts that only pretend.
"""

from collections import UserDict
from pathlib import Path
from types import NoneType
from typing import get_args

import msgspec

from ucloud.model.wiring import Thing

KINDS = {kind.__name__: kind for kind in (*get_args(Thing), NoneType)}  # None: a damaged one


class Change(msgspec.Struct, array_like=True):
    """kind: "" where there is nothing any more."""

    key: str
    kind: str = ""
    thing: msgspec.Raw = msgspec.Raw(b"null")


def things_in(file: Path) -> dict[str, Thing | None]:
    """Nothing where there is no such file; a line that was not written to its end has not happened."""
    things: dict[str, Thing | None] = {}
    for line in file.read_bytes().split(b"\n")[:-1] if file.exists() else ():
        change = msgspec.json.decode(line, type=Change)
        if change.kind:
            things[change.key] = msgspec.json.decode(change.thing, type=KINDS[change.kind])
        else:
            things.pop(change.key, None)
    return things


class ThingsFile(UserDict[str, Thing | None]):
    """For one process at a time."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.data = things_in(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}")
        new.write_bytes(b"".join(put(key, thing) for key, thing in self.data.items()))
        new.rename(file)
        self._file = file.open("ab", buffering=0)

    def __setitem__(self, key: str, thing: Thing | None) -> None:
        super().__setitem__(key, thing)
        self._file.write(put(key, thing))

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._file.write(line(Change(key)))

    def close(self) -> None:
        self._file.close()


def put(key: str, thing: Thing | None) -> bytes:
    return line(Change(key, type(thing).__name__, msgspec.Raw(msgspec.json.encode(thing))))


def line(change: Change) -> bytes:
    return msgspec.json.encode(change) + b"\n"
