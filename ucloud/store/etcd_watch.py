"""One watch on etcd: a gRPC stream with one watcher per prefix, read by a thread of its own.

Never silent: it asks for progress every 5 s, and breaks when nothing was heard for longer. `hasleader` makes a member
that lost its leader end the stream. etcd does not split a commit over two responses of a watcher, as we do not ask it
for fragments.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from ucloud.base.clock import Clock
from ucloud.base.errors import Error, Temporary
from ucloud.model.keys import ROOT
from ucloud.store.contract import Batch, Change, Compacted, Item
from ucloud.store.etcd_calls import Members
from ucloud.store.etcd_messages import DELETE, MESSAGES, PROGRESS_WATCH_ID

PROGRESS_S = 5.0
SILENCE_S = 9.0  # so that the second request for progress that finds no answer to the first ends the watch


class EtcdWatch:
    def __init__(
        self,
        members: Members,
        after: Mapping[str, int],
        wake: Callable[[], None],
        clock: Clock,
        ended: Callable[["EtcdWatch"], None],
    ) -> None:
        self._members, self._wake, self._clock, self._ended = members, wake, clock, ended
        self._after = dict(after)
        self._prefixes = dict(enumerate(after, start=1))  # by the watch id that we choose
        self._lock = threading.Lock()
        self._batches: list[Batch] = []
        self._error: Error | None = None
        self._heard_s = clock.monotonic_s()
        self._closed = threading.Event()
        self._call: Any = None
        self._thread = threading.Thread(target=self._read, name="etcd watch", daemon=True)

    def start(self) -> None:
        self._call, self._explain = self._members.open_stream("/etcdserverpb.Watch/Watch", self._requests(), "WatchResponse")
        self._thread.start()

    def poll(self) -> Sequence[Batch]:
        with self._lock:
            batches, self._batches = self._batches, []
            if not batches and self._error:
                raise self._error
            return batches

    def close(self) -> None:
        self._closed.set()
        self._call.cancel()
        self._thread.join()
        self._ended(self)

    def _requests(self) -> Iterator[Any]:
        """Runs in a thread of grpc, which waits here; so this is the clock of the watch too."""
        request = MESSAGES["WatchRequest"]
        for watch_id, prefix in self._prefixes.items():
            # From the last revision seen, not from the one after it: when an older etcd compacts at a revision that
            # deleted a key, a watch that starts exactly there misses it (etcd issues 18089, 19179). 0 would mean "now".
            start = max(self._after[prefix], 1)
            yield request(
                create_request=MESSAGES["WatchCreateRequest"](
                    key=full(prefix), range_end=range_end(prefix), start_revision=start, watch_id=watch_id
                )
            )
        while not self._closed.wait(PROGRESS_S):
            if self._clock.monotonic_s() - self._heard_s > SILENCE_S:
                self._call.cancel()  # the reader takes it for an error of the member, as it is
                return
            yield request(progress_request=MESSAGES["WatchProgressRequest"]())

    def _read(self) -> None:
        try:
            self._break(self._read_until_canceled())
        except grpc.RpcError as error:
            if not self._closed.is_set():
                self._break(self._explain(error))
        finally:
            self._closed.set()
            self._call.cancel()

    def _read_until_canceled(self) -> Error:
        for response in self._call:
            self._heard_s = self._clock.monotonic_s()
            if response.canceled:
                return self._why(response)
            if response.events or not response.created:
                self._take(response)
        return Temporary("etcd: the member ended a watch")

    def _why(self, response: Any) -> Error:
        if response.compact_revision:
            return Compacted(f"etcd: the changes before revision {response.compact_revision} are gone")
        return Temporary(f"etcd: a watch was cancelled: {response.cancel_reason}")

    def _take(self, response: Any) -> None:
        revision = response.header.revision
        if response.watch_id == PROGRESS_WATCH_ID:
            batches = [Batch(prefix, (), revision) for prefix in self._prefixes.values()]
        else:
            prefix = self._prefixes[response.watch_id]
            events = [event for event in response.events if event.kv.mod_revision > self._after[prefix]]
            batches = [Batch(prefix, tuple(map(change_of, events)), revision)]
        with self._lock:
            self._batches += batches
        self._wake()

    def _break(self, error: Error) -> None:
        with self._lock:
            self._error = error
        self._wake()


def full(key: str) -> bytes:
    return (ROOT + key).encode(errors="surrogateescape")


def key_of(kv: Any) -> str:
    """Others may have put keys there that are not text: nobody asks for them, but they must be told apart."""
    key: str = kv.key.decode(errors="surrogateescape")
    return key.removeprefix(ROOT)


def range_end(prefix: str) -> bytes:
    """The first key behind all that start with `prefix`. A key in UTF-8 has no byte 255 that could overflow."""
    start = full(prefix)
    return start[:-1] + bytes([start[-1] + 1])


def item_of(kv: Any) -> Item:
    return Item(key_of(kv), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def change_of(event: Any) -> Change:
    kv = event.kv
    item = None if event.type == DELETE else item_of(kv)
    return Change(key_of(kv), item, kv.mod_revision)
