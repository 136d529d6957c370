"""What a `decide` sees: the records that its loop watches, with their revisions. `ucloud.store.view.View` is one."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from ucloud.model.record import Fact, Record

R = TypeVar("R", bound=Record)


class Facts(Protocol):
    @property
    def bad(self) -> Mapping[str, str]:
        """Keys whose record cannot be read, with the reason. They look absent below, and are not: leave alone what they are
        about."""

    def all(self, kind: type[R]) -> Mapping[str, Fact[R]]:
        """Every record of that type, by key and sorted by it."""

    def get(self, kind: type[R], key: str) -> Fact[R] | None: ...

    def seen(self, prefix: str) -> int:
        """Every change of keys under `prefix` up to this revision is in."""
