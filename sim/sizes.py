"""How large each VM was wanted at each revision, and what people were told is done: a guest that starts has a size that its VM
was wanted to have then or later. Used by `sim.invariants` and `sim.client`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sim.world import Violation
from ucloud.model.vm import Vm


class Wanted(NamedTuple):
    cpus: int
    memory_mib: int
    disk_mib: int


def size_of(vm: Vm) -> Wanted:
    return Wanted(vm.cpus, vm.memory_mib, vm.disk_mib)


class Sizes:
    def __init__(self) -> None:
        self._wanted: dict[str, list[tuple[int, Wanted]]] = {}  # VM → revisions at which it changed, rising, and its size then
        self._done: dict[str, int] = {}  # VM → the newest revision whose resize was said to be done

    def put(self, vm: Vm, revision: int) -> None:
        self._wanted.setdefault(vm.id, []).append((revision, size_of(vm)))

    def answered(self, action: Mapping[str, Any]) -> None:
        """People were told this of an action."""
        if action["verb"] == "resize" and action["state"] == "success":
            vm, revision, _ = action["id"].split(".")
            self._done[vm] = max(self._done.get(vm, 0), int(revision))

    def starting(self, vm: str, size: Wanted) -> None:
        changes, done = self._wanted[vm], self._done.get(vm, 0)
        before = [wanted for revision, wanted in changes if revision <= done]
        since = [*before[-1:], *(wanted for revision, wanted in changes if revision > done)]
        if size not in since:
            raise Violation(f"{vm} starts with {size}, though it was said to have {since[0]} by now")
