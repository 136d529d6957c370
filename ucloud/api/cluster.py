"""/v1/cluster: how the cloud as a whole is, and what in it needs somebody."""

from contextlib import suppress
from typing import Annotated

import msgspec
from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api.count import Counted, Snapshot, count
from ucloud.api.describe import describe
from ucloud.api.fields import Timestamp
from ucloud.api.finding import Finding, findings
from ucloud.api.services import services
from ucloud.base.errors import Temporary
from ucloud.model.bookkeeping import CONTROL_LOOPS, Lock
from ucloud.model.record import decode
from ucloud.store.contract import StoreMember

routes = Blueprint("cluster", __name__)


class ClusterShown(Struct, frozen=True, kw_only=True):
    """How the cloud is. is_well: there are no findings."""

    at: Timestamp
    is_well: bool
    findings: list[Finding]
    etcd: list[StoreMember]
    leaders: Annotated[dict[str, str] | None, Meta(description="of each control loop; null while etcd does not answer")]
    counted: Annotated[Counted | None, Meta(description="null while the API knows nothing current of the cloud")]


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
