"""Calls to an etcd cluster: which member is asked, for how long, and what its errors mean to us.

Used by `ucloud.store.etcd` alone. One channel per member; the one that last answered is asked first. Nothing here may
cross a fork (grpc does not survive it): open a store in the process that uses it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import msgspec

from ucloud.base.errors import Error, Invalid, NotFound, Temporary
from ucloud.store.contract import Compacted
from ucloud.store.etcd_messages import MESSAGES

T = TypeVar("T")

PAUSE_S = 0.1  # between two rounds over all members
HAS_LEADER = (("hasleader", "true"),)  # a member without a leader says so at once, and ends its streams
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),  # also what a connection may take at most
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.keepalive_time_ms", 6000),  # etcd closes connections that ask more often than every 5 s
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # no connection shared with another store of this process
    ("grpc.enable_http_proxy", 0),
]


class Tls(msgspec.Struct, frozen=True):
    """PEM texts: who signs the members' certificates; what we show them."""

    ca: bytes
    certificate: bytes
    key: bytes


class Members:
    """The members of the cluster, the preferred one first."""

    def __init__(self, endpoints: Sequence[str], timeout_s: float, tls: Tls | None) -> None:
        self.timeout_s, self.endpoints = timeout_s, tuple(endpoints)
        self._channels = [open_channel(endpoint, tls) for endpoint in endpoints]
        self._preferred = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._pid = os.getpid()

    def ask(self, path: str, request: Any, response: str) -> Any:
        """A call that may be repeated: each member in turn, round after round, until one answers or time is up."""

        def call(channel: grpc.Channel, timeout_s: float) -> Any:
            return unary(channel, path, response)(request, timeout=timeout_s, metadata=HAS_LEADER)

        return self._in_turn(call)

    def ask_stream(self, path: str, request: Any, response: str) -> Any:
        """The first answer of a stream, asked as `ask` does."""

        def call(channel: grpc.Channel, timeout_s: float) -> Any:
            answers = stream(channel, path, response)(iter([request]), timeout=timeout_s, metadata=HAS_LEADER)
            try:
                for answer in answers:
                    return answer
                raise Temporary("etcd: the member ended a stream without an answer")
            finally:
                answers.cancel()

        return self._in_turn(call)

    def tell(self, path: str, request: Any, response: str) -> Any:
        """A call that must not be repeated: one member is asked, once.

        gRPC says UNAVAILABLE both of a request that never left and of one whose answer was lost, and etcd says it of
        one that may still be carried out; so every failure is Temporary here, and the next call asks the next member.
        """
        index = self._first()
        try:
            return unary(self._channels[index], path, response)(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._failed(index, error) from error

    def ask_each(self, path: str, request: Any, response: str, timeout_s: float) -> list[Any]:
        """What every member answers, all asked at once; an Error in place of what does not come."""
        self._first()
        calls = [unary(channel, path, response).future(request, timeout=timeout_s) for channel in self._channels]
        answers = []
        for call in calls:
            try:
                answers.append(call.result())
            except grpc.RpcError as error:
                answers.append(translate(error))
        return answers

    def open_stream(self, path: str, requests: Iterator[Any], response: str) -> tuple[Any, Callable[[grpc.RpcError], Error]]:
        """A stream to the preferred member, without waiting; and what to call with the error that ends it."""
        index = self._first()
        call = stream(self._channels[index], path, response)(requests, metadata=HAS_LEADER)
        return call, lambda error: self._failed(index, error)

    def close(self) -> None:
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def _first(self) -> int:
        assert os.getpid() == self._pid, "a store does not survive a fork"
        if self._closed.is_set():
            raise Temporary("the store is closed")
        return self._preferred

    def _in_turn(self, call: Callable[[grpc.Channel, float], T]) -> T:
        deadline_s = time.monotonic() + self.timeout_s
        share_s = self.timeout_s / len(self._channels)  # a member that hangs leaves time to ask each of the others
        while True:
            for _ in self._channels:
                index = self._first()
                left_s = deadline_s - time.monotonic()
                try:
                    return call(self._channels[index], max(0.0, min(left_s, share_s)))
                except grpc.RpcError as error:
                    failure = self._failed(index, error)
                    if not isinstance(failure, Temporary) or deadline_s - time.monotonic() <= PAUSE_S:
                        raise failure from error
            self._closed.wait(PAUSE_S)

    def _failed(self, index: int, error: grpc.RpcError) -> Error:
        """Our error; after one that is the member's own fault the next one is preferred."""
        failure = translate(error)
        with self._lock:
            if isinstance(failure, Temporary) and self._preferred == index:
                self._preferred = (index + 1) % len(self._channels)
        return failure


def open_channel(endpoint: str, tls: Tls | None) -> grpc.Channel:
    target = endpoint.partition("://")[2]
    if target.startswith("["):
        target = f"ipv6:{target}"
    if not tls:
        return grpc.insecure_channel(target, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.secure_channel(target, credentials, options=OPTIONS)


def unary(channel: grpc.Channel, path: str, response: str) -> Any:
    return channel.unary_unary(path, serialize, MESSAGES[response].FromString)


def stream(channel: grpc.Channel, path: str, response: str) -> Any:
    return channel.stream_stream(path, serialize, MESSAGES[response].FromString)


def serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


SILENCE = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "etcd does not answer in time; has it lost its quorum?",
    grpc.StatusCode.UNAVAILABLE: "no member of etcd can be reached, or it has no leader",
}


def translate(error: grpc.RpcError) -> Error:
    """By code alone. OUT_OF_RANGE is a revision that is compacted or not reached yet: both mean to list again.
    INVALID_ARGUMENT is a transaction that a member configured smaller than ours refused. RESOURCE_EXHAUSTED is a full
    or overloaded etcd (we send nothing too large): an operator can mend it. What is left is no answer."""
    code, text = error.code(), f"etcd: {error.details()}"
    if code == grpc.StatusCode.OUT_OF_RANGE:
        return Compacted(text)
    if code == grpc.StatusCode.NOT_FOUND:
        return NotFound(text)
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return Invalid(text)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Temporary(f"etcd takes no more writes: it is full or overloaded ({error.details()})", retry_s=5.0)
    return Temporary(SILENCE.get(code, "etcd does not answer") + f" ({error.details()})")
