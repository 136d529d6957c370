"""Which type of record lives under which key."""

from ucloud.model.bookkeeping import Idempotency, Lock, Ticket, Unique
from ucloud.model.event import Event
from ucloud.model.host import Alive, Endpoint, Failover, Fence, Hold, Host, Inventory, JoinToken, Reconciled
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.key import Blob, HostBlob, Key, Project
from ucloud.model.network import Network, Port
from ucloud.model.record import Record
from ucloud.model.vm import Manifest, Placement, Status, Vm

KINDS: dict[str, type[Record]] = {
    "vm": Vm,
    "placement": Placement,
    "manifest": Manifest,
    "host": Host,
    "alive": Alive,
    "fence": Fence,
    "pool": Pool,
    "image": Image,
    "imagestate": ImageState,
    "unique": Unique,
    "use": Unique,
    "idempotency": Idempotency,
    "lock": Lock,
    "ticket": Ticket,
    "event": Event,
    "network": Network,
    "port": Port,
    "key": Key,
    "project": Project,
    "blob": Blob,
}
STATUS_KINDS: dict[str, type[Record]] = {
    "vm": Status,
    "inventory": Inventory,
    "endpoint": Endpoint,
    "reconciled": Reconciled,
}
CLUSTER_KINDS: dict[str, type[Record]] = {"failover": Failover, "hold": Hold}


def kind_of(key: str) -> type[Record] | None:
    """None for a key that this version does not know: it is left alone."""
    first, *rest = key.split("/")
    if first == "status":
        return STATUS_KINDS.get(rest[1]) if len(rest) > 1 else None
    if first == "manifest" and rest[1:2] == ["blob"]:
        return HostBlob
    if first == "cluster":
        return CLUSTER_KINDS.get(rest[0]) if rest else None
    if first == "token":
        return JoinToken if rest[:1] == ["join"] else None
    return KINDS.get(first)
