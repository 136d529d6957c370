"""/v1/cluster: how the cloud as a whole is, and what in it needs somebody."""

from contextlib import suppress
from typing import Annotated

import msgspec
from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api.count import Counted, Snapshot, count
from ucloud.api.describe import describe
from ucloud.api.fields import NO_CONTROLS, Timestamp, ruled
from ucloud.api.finding import Finding, findings
from ucloud.api.records import Wish, commit, get
from ucloud.api.services import services
from ucloud.base.errors import Conflict, Temporary
from ucloud.model.bookkeeping import CONTROL_LOOPS, Lock
from ucloud.model.decision import as_seen
from ucloud.model.host import Failover
from ucloud.model.record import decode
from ucloud.store.contract import StoreMember

routes = Blueprint("cluster", __name__)


Reason = Annotated[
    str, ruled("a text of at most 200 characters, without control characters", pattern=NO_CONTROLS, max_length=200)
]


class ClusterShown(Struct, frozen=True, kw_only=True):
    """How the cloud is. is_well: there are no findings."""

    at: Timestamp
    is_well: bool
    findings: list[Finding]
    etcd: list[StoreMember]
    leaders: Annotated[dict[str, str] | None, Meta(description="of each control loop; null while etcd does not answer")]
    counted: Annotated[Counted | None, Meta(description="null while the API knows nothing current of the cloud")]


class ClusterPatch(Struct, frozen=True):
    """Whether failover is armed, and why not."""

    armed: Annotated[bool, Meta(description="whether silent hosts are declared dead, and their VMs restarted elsewhere")]
    reason: Annotated[Reason, Meta(description="for those who wonder")] = ""


class FailoverShown(Struct, frozen=True):
    armed: bool
    since: Timestamp
    reason: str


class FailoverAnswer(Struct, frozen=True):
    failover: FailoverShown


@routes.get("/v1/cluster")
@describe("Show how the cloud is", answer=ClusterShown)
def get_cluster() -> ClusterShown:
    """It is answered also while etcd does not answer, though after some seconds."""
    members = list(services().store.members())
    leads = leaders(members)
    counted = None
    with suppress(Temporary):
        with services().view.reading() as view:
            snapshot = Snapshot(view)
        counted = count(snapshot, services().clock.now_s())
    found = findings(members, leads, counted)
    return ClusterShown(at=services().now(), is_well=not found, findings=found, etcd=members, leaders=leads, counted=counted)


@routes.patch("/v1/cluster")
@describe("Arm or disarm failover", body=ClusterPatch, answer=FailoverAnswer, errors=(Conflict,))
def patch_cluster(body: ClusterPatch) -> FailoverAnswer:
    """While it is disarmed no silent host is declared dead: for work on switches and power lines. Fences that are
    there stay."""
    key = Failover.at("failover")

    def change() -> Wish:
        before = get(Failover, key)
        now = Failover(armed=body.armed, since=services().now(), reason=body.reason)
        if before and (before.record.armed, before.record.reason) == (now.armed, now.reason):
            return Wish(revision=before.revision)
        wish = Wish(requires=[as_seen(key, before)])
        wish.put(now, before.unknown if before else None)
        return wish

    commit("set", "failover", change)
    stored = get(Failover, key)
    assert stored  # nobody deletes it
    return FailoverAnswer(FailoverShown(stored.record.armed, stored.record.since, stored.record.reason))


def leaders(members: list[StoreMember]) -> dict[str, str] | None:
    """By loop; "" where nobody leads."""
    if not any(member.has_leader for member in members):
        return None
    try:
        items = services().store.list(Lock.prefix).items
    except Temporary:
        return None
    owners = {}
    for item in items:
        with suppress(msgspec.DecodeError):
            owners[item.key.removeprefix(Lock.prefix)] = decode(Lock, item.value)[0].owner
    return {loop: owners.get(loop, "") for loop in CONTROL_LOOPS}
