"""Events: what happened and why, for people. Nothing in ucloud rests on them, and one may get lost."""

from typing import ClassVar

import msgspec

from ucloud.model.record import Record


class News(msgspec.Struct, frozen=True):
    """What an event tells: what happened, as people say it afterwards (placed, crashed), and why."""

    verb: str
    reason: str


class Event(Record, frozen=True, kw_only=True):
    """Written once by `writer` (a loop of the control daemon, or a host's id), which also removes its own old ones.

    id: a ULID; those of one writer sort by time. verb: what happened, as people say it afterwards (placed, crashed). about: the
    key of the record that people know it by, vm/…, image/… or host/… (see `subject`); name: what that was called then.
    """

    prefix: ClassVar[str] = "event/"
    id: str
    writer: str
    time: str
    verb: str
    about: str
    name: str = ""
    reason: str

    @property
    def key(self) -> str:
        return self.at(self.writer, self.id)


def subject(key: str) -> str:
    """The record that people know, of one that was made for it: vm/… of a placement, manifest or status, image/… of an
    imagestate, host/… of a fence and of what a host says of itself. Other keys are their own subject."""
    match key.split("/"):
        case ["placement", vm] | ["manifest", _, vm] | ["status", _, "vm", vm]:
            return f"vm/{vm}"
        case ["imagestate", image]:
            return f"image/{image}"
        case ["alive" | "fence", host] | ["status", host, "inventory" | "endpoint" | "reconciled"]:
            return f"host/{host}"
        case _:
            return key
