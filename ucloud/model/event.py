"""Events: what happened and why, for people."""

from typing import ClassVar

from ucloud.model.record import Record


class Event(Record, frozen=True, kw_only=True):
    """Written once, by `writer` (a loop or a host), which also removes its own old ones. about: the key it is about."""

    prefix: ClassVar[str] = "event/"
    id: str
    writer: str
    when: str
    about: str
    text: str

    @property
    def key(self) -> str:
        return self.at(self.writer, self.id)
