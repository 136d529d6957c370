"""The two kinds of clouds that `rounds` break, as far as people, faults and the checker have to do with them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ucloud.client import Client
from ucloud.daemon.network import Hands
from ucloud.store.etcd import EtcdStore


class Cloud(Protocol):
    """urls: of several ways to the API. host_ids: by the names of the hosts. hands: to look at what a host's network has."""

    @property
    def urls(self) -> Sequence[str]: ...
    @property
    def host_ids(self) -> Mapping[str, str]: ...
    @property
    def pool_dir(self) -> Path: ...
    def guests_dir(self, host: str) -> Path: ...
    def hands(self, host: str) -> AbstractContextManager[Hands]: ...
    def client(self, patience_s: float = 30.0) -> Client: ...


C = TypeVar("C", bound=Cloud)


def nothing() -> None:
    """How a fault ends that mends itself."""


@dataclass(frozen=True)
class Fault:
    """One thing that may happen to `target`, and what undoes it. hurts: all that works no more meanwhile."""

    what: str
    target: str
    begin: Callable[[], None]
    end: Callable[[], None] = nothing
    hurts: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        return self.target.rstrip("-0123456789")

    @property
    def members(self) -> set[str]:
        """Of etcd."""
        return {name for name in self.hurts if name.startswith("etcd-")}


@dataclass(frozen=True)
class Breakable(Generic[C]):
    """A cloud, what may happen to it, and how to find what its daemons said that they never should."""

    cloud: C
    store: EtcdStore
    faults: Sequence[Fault]
    bugs: Callable[[], list[str]]


def tracebacks(logs: Mapping[str, Path]) -> list[str]:
    found = []
    for name, log in logs.items():
        text = log.read_text(errors="replace")
        if "Traceback" in text:
            found.append(f"{name} has a bug:\n{text[text.index('Traceback') :][:4000]}")
    return found
