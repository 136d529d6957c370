"""/v1/vms/<vm>/log: what a VM's guests wrote to its serial line, fetched from the daemon of its host, piece after piece.

Who follows a log gets it from where it stopped, through restarts of the guest, its host's daemon and the API.
"""

import math
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Annotated, NamedTuple

import httpx
from flask import Response, request, stream_with_context
from msgspec import Meta, Struct

from ucloud.api import host_daemon
from ucloud.api.phase import Sight
from ucloud.api.services import services
from ucloud.base.errors import NotFound, Temporary

MAX_BYTES = 2 * 1024 * 1024  # hosts keep less
DEADLINE_S = 15.0
ROUND_S = 3.0  # so long a host waits for more, so that a server that stops needs no longer
PAUSE_S = 1.0
MAX_PLACE = 1 << 62


class LogQuery(Struct, frozen=True):
    after: Annotated[int, Meta(ge=0, le=MAX_PLACE, description="skip so many bytes: X-Log-End of an earlier answer")] = 0
    wait: Annotated[float, Meta(ge=0, le=60, description="seconds to wait until there is something")] = 0
    follow: Annotated[bool, Meta(description="go on without end; nothing comes while the host does not answer")] = False


class Piece(NamedTuple):
    """Bytes `start` to `end` of all that was ever written; `end` is where to go on."""

    data: bytes
    start: int
    end: int


def answer(look: Callable[[], Sight], query: LogQuery) -> Response:
    """Empty while the VM has not been started. Raises Temporary when the host does not answer."""
    if not (query.follow or query.wait):
        with services().logs.take():
            return _reply(_read(look(), query.after, 0), query.after)
    if not query.follow:
        with services().followers.take():
            return _reply(_await(look, query.after, query.wait), query.after)
    return _stream(look, query.after)


def _stream(look: Callable[[], Sight], after: int) -> Response:
    with ExitStack() as place:
        place.enter_context(services().followers.take())
        first = _read(look(), after, 0)
        response = _reply(first, after, stream_with_context(_pieces(look, first)))
        response.call_on_close(place.pop_all().close)
        return response


def _pieces(look: Callable[[], Sight], first: Piece) -> Iterator[bytes]:
    piece = first
    while not (services().view.is_stopping or _is_gone()):
        if piece.data:
            yield piece.data
        try:
            piece = _read(look(), piece.end, ROUND_S)
        except NotFound:
            return
        except Temporary:
            piece = Piece(b"", piece.end, piece.end)
            services().view.pause(PAUSE_S)


def _await(look: Callable[[], Sight], after: int, wait_s: float) -> Piece:
    """What comes within that time; nothing if nothing does."""
    clock, view = services().clock, services().view
    deadline_s = clock.monotonic_s() + wait_s
    while True:
        left_s = deadline_s - clock.monotonic_s()
        piece = _read(look(), after, max(0.0, min(ROUND_S, left_s)))
        if piece.data or piece.end != after or left_s <= 0 or view.is_stopping:
            return piece


def _is_gone() -> bool:
    """The client has closed its connection."""
    socket = request.environ.get("gunicorn.socket")
    if socket is None:
        return False
    poll = select.poll()
    poll.register(socket, select.POLLRDHUP)
    return bool(poll.poll(0))


def _read(sight: Sight, after: int, wait_s: float) -> Piece:
    """The host answers as soon as it has something."""
    if not sight.placed or sight.status is None:
        services().view.pause(min(wait_s, PAUSE_S))
        return Piece(b"", after, after)
    url = f"/v1/vm/{sight.vm.record.id}/log?after={after}&wait={math.ceil(wait_s)}"
    with host_daemon.asking(sight, "the log", url, patience_s=wait_s + 5) as response:
        data = _download(response, services().clock.monotonic_s() + wait_s + DEADLINE_S)
        end = _place(response, "X-Log-End", after + len(data))
        return Piece(data, max(0, end - len(data)), end)


def _download(response: httpx.Response, deadline_s: float) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if services().clock.monotonic_s() > deadline_s:
            raise httpx.ReadTimeout("it takes too long", request=response.request)
        if len(data) > MAX_BYTES:
            return bytes(data[-MAX_BYTES:])
    return bytes(data)


def _place(response: httpx.Response, name: str, otherwise: int) -> int:
    text = response.headers.get(name, "")
    return min(int(text), MAX_PLACE) if text.isascii() and text.isdecimal() and len(text) < 20 else otherwise


def _reply(piece: Piece, after: int, stream: Iterator[bytes] | None = None) -> Response:
    places = {"X-Log-Start": str(piece.start), "X-Log-End": str(piece.end)}
    truncated = "true" if piece.start > after else "false"
    return Response(stream or piece.data, mimetype="text/plain", headers={"X-Log-Truncated": truncated, **places})
