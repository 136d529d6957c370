"""The store on etcd 3.4 and later, over gRPC, with the messages of `etcd_messages` and the calls of `etcd_calls`.

Reads are linearizable and are repeated at other members until the deadline; a commit is sent once. Prefixes and keys
get the root here and lose it here.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ucloud.base.clock import Clock
from ucloud.base.errors import Conflict, NotFound
from ucloud.model.decision import Requirement, Unchanged
from ucloud.store import limits
from ucloud.store.contract import Item, Listing, StoreMember
from ucloud.store.etcd_calls import Members, Tls
from ucloud.store.etcd_members import look
from ucloud.store.etcd_messages import EQUAL, LESS, MESSAGES, MOD
from ucloud.store.etcd_watch import EtcdWatch, full, item_of, range_end


class EtcdStore:
    """Thread-safe. endpoints: `http://[::1]:2379`, or https with `tls`; the first one is asked as long as it answers."""

    def __init__(self, endpoints: Sequence[str], clock: Clock, *, timeout_s: float = 5.0, tls: Tls | None = None) -> None:
        self._members = Members(endpoints, timeout_s, tls)
        self._clock = clock
        self._watches: set[EtcdWatch] = set()

    def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Listing:
        start = max(full(prefix), full(after) + b"\0")
        request = MESSAGES["RangeRequest"](key=start, range_end=range_end(prefix), limit=limit, revision=revision)
        answer = self._members.ask("/etcdserverpb.KV/Range", request, "RangeResponse")
        return Listing(tuple(map(item_of, answer.kvs)), revision or answer.header.revision, answer.more)

    def get(self, key: str) -> Item | None:
        request = MESSAGES["RangeRequest"](key=full(key))
        answer = self._members.ask("/etcdserverpb.KV/Range", request, "RangeResponse")
        return item_of(answer.kvs[0]) if answer.kvs else None

    def get_all(self, keys: Sequence[str]) -> Sequence[Item | None]:
        """A transaction that only reads may be repeated."""
        ranges = [MESSAGES["RequestOp"](request_range=MESSAGES["RangeRequest"](key=full(key))) for key in keys]
        answer = self._members.ask("/etcdserverpb.KV/Txn", MESSAGES["TxnRequest"](success=ranges), "TxnResponse")
        found = [part.response_range.kvs for part in answer.responses]
        return [item_of(kvs[0]) if kvs else None for kvs in found]

    def watch(self, after: Mapping[str, int], wake: Callable[[], None]) -> EtcdWatch:
        watch = EtcdWatch(self._members, after, wake, self._clock, self._watches.discard)
        watch.start()
        self._watches.add(watch)
        return watch

    def commit(
        self,
        puts: Mapping[str, bytes] = {},
        deletes: Iterable[str] = (),
        requires: Iterable[Requirement] = (),
        lease: int = 0,
    ) -> int:
        deletes, requires = tuple(deletes), tuple(requires)
        limits.check(puts, deletes, requires)
        request = transaction(puts, deletes, requires, lease)
        answer = self._members.tell("/etcdserverpb.KV/Txn", request, "TxnResponse")
        if not answer.succeeded:
            raise Conflict("a requirement no longer holds")
        revision: int = answer.header.revision
        return revision

    def grant(self, ttl_s: float) -> int:
        """One that was granted although its answer was lost runs out by itself: so this may be repeated."""
        request = MESSAGES["LeaseGrantRequest"](TTL=math.ceil(ttl_s))
        lease: int = self._members.ask("/etcdserverpb.Lease/LeaseGrant", request, "LeaseGrantResponse").ID
        return lease

    def keep_alive(self, lease: int) -> float:
        request = MESSAGES["LeaseKeepAliveRequest"](ID=lease)
        answer = self._members.ask_stream("/etcdserverpb.Lease/LeaseKeepAlive", request, "LeaseKeepAliveResponse")
        if answer.TTL <= 0:
            raise NotFound(f"lease {lease} is gone")
        return float(answer.TTL)

    def revoke(self, lease: int) -> None:
        request = MESSAGES["LeaseRevokeRequest"](ID=lease)
        try:
            self._members.ask("/etcdserverpb.Lease/LeaseRevoke", request, "LeaseRevokeResponse")
        except NotFound:
            return

    def compact(self, revision: int) -> None:
        """Forget what was before `revision`. etcd does this by itself too, as it is configured."""
        request = MESSAGES["CompactionRequest"](revision=revision, physical=True)
        self._members.ask("/etcdserverpb.KV/Compact", request, "CompactionResponse")

    def members(self) -> Sequence[StoreMember]:
        return look(self._members)

    def close(self) -> None:
        for watch in tuple(self._watches):
            watch.close()
        self._members.close()


def transaction(puts: Mapping[str, bytes], deletes: Sequence[str], requires: Sequence[Requirement], lease: int) -> Any:
    put, delete, operation = (MESSAGES[name] for name in ("PutRequest", "DeleteRangeRequest", "RequestOp"))
    success = [operation(request_put=put(key=full(key), value=value, lease=lease)) for key, value in puts.items()]
    success += [operation(request_delete_range=delete(key=full(key))) for key in deletes]
    return MESSAGES["TxnRequest"](compare=map(comparison, requires), success=success)


def comparison(requirement: Requirement) -> Any:
    compare = MESSAGES["Compare"]
    if isinstance(requirement, Unchanged):
        # A key that does not exist has revision 0 here.
        return compare(result=EQUAL, target=MOD, key=full(requirement.key), mod_revision=requirement.revision)
    prefix, above = requirement.prefix, requirement.revision + 1
    return compare(result=LESS, target=MOD, key=full(prefix), range_end=range_end(prefix), mod_revision=above)
