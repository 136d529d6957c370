"""Every protection can be taken away from outside, to prove that the simulator notices (tests/sim/test_protections.py).

Nothing in production code knows of this: what is weakened here is what a loop is handed, or a subclass of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ucloud.host.decide import World as Sight
from ucloud.host.loop import HostLoop
from ucloud.loop import Decider
from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.model.record import Fact
from ucloud.model.vm import Status
from ucloud.store.view import View


def everything(_: Requirement) -> bool:
    return True


@dataclass(frozen=True)
class Protections:
    """What nodes are built from. keeps, host_keeps: which requirements schedulers and hosts send to the store. found_from:
    a seed from which the weakness was found soon, when this was last measured: only to save time."""

    keeps: Callable[[Requirement], bool] = everything
    host_keeps: Callable[[Requirement], bool] = everything
    host_loop: type[HostLoop] = HostLoop
    decider: type[Decider] = Decider
    view: type[View] = View
    found_from: int = 0


def about(requirement: Requirement, prefix: str) -> bool:
    return isinstance(requirement, Unchanged) and requirement.key.startswith(prefix)


def only_lock(requirement: Requirement) -> bool:
    return about(requirement, "lock/")


def no_lock(requirement: Requirement) -> bool:
    """But the lock itself is still taken only when it is free."""
    return not about(requirement, "lock/") or requirement.revision == 0


def no_not_newer(requirement: Requirement) -> bool:
    return not isinstance(requirement, NotNewer)


def no_absent_status(requirement: Requirement) -> bool:
    return not about(requirement, "status/")


def no_manifest(requirement: Requirement) -> bool:
    return not about(requirement, "manifest/")


def no_old_alive(requirement: Requirement) -> bool:
    return not about(requirement, "alive/")


class NoStartingCommit(HostLoop):
    """Believes to have said `starting` whenever a manifest wants a guest."""

    def _look(self) -> Sight:
        sight = super()._look()
        statuses = dict(sight.statuses)
        for vm, manifest in sight.manifests.items():
            told, status = manifest.record, statuses.get(vm)
            if told.want == "running" and (status is None or status.record.boots != told.boots):
                said = Status(
                    host=told.host,
                    vm=vm,
                    epoch=told.epoch,
                    boots=told.boots,
                    phase="starting",
                    since="",
                    revisions=told.revisions,
                )
                statuses[vm] = Fact(said.key, said, status.revision if status else 0)
        return msgspec.structs.replace(sight, statuses=statuses)


class NoBootsRule(HostLoop):
    """Takes a guest that powered itself off for one that crashed."""

    def _look(self) -> Sight:
        sight = super()._look()
        statuses = {
            vm: msgspec.structs.replace(fact, record=msgspec.structs.replace(fact.record, phase="running"))
            if fact.record.phase == "off" and vm not in sight.guests
            else fact
            for vm, fact in sight.statuses.items()
        }
        return msgspec.structs.replace(sight, statuses=statuses)


class NoDistrust(View):
    """Goes on as if a lost answer were a no."""

    def distrust(self) -> None:
        pass


class NoOwnWrites(Decider):
    """Decides although its view lacks what it has written itself."""

    def _may_decide(self) -> bool:
        self._written: dict[str, Any] = {}
        return super()._may_decide()


PROTECTIONS: dict[str, Protections] = {
    "requirements": Protections(keeps=only_lock),
    "leader-lock": Protections(keeps=no_lock),
    "not-newer": Protections(keeps=no_not_newer, found_from=32),
    "absent-status": Protections(keeps=no_absent_status),
    "unchanged-manifest": Protections(host_keeps=no_manifest, found_from=18),
    "starting-commit": Protections(host_loop=NoStartingCommit),
    "boots-rule": Protections(host_loop=NoBootsRule),
    "read-again": Protections(view=NoDistrust),
    "own-writes": Protections(decider=NoOwnWrites),
    "own-alive": Protections(host_keeps=no_old_alive, found_from=228),
}
