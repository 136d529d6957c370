"""Consoles: the serial line of a VM as a binary WebSocket, passed on to the daemon of its host, which speaks it.

A ticket opens one console once, at any API process. It travels as a subprotocol, because browsers can send no header of their
own, and URLs end up in logs; tools that cannot do that may put it into the URL, as it is worth nothing a moment later.
"""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from msgspec import UNSET, Meta, Struct, UnsetType
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ucloud.api import host_daemon, phase
from ucloud.api.body import given
from ucloud.api.describe import describe
from ucloud.api.fields import Timestamp
from ucloud.api.records import PROJECT, find, found, fresh, get
from ucloud.api.relay import CHUNK_BYTES, Upgraded
from ucloud.api.services import services
from ucloud.api.vmlog import MAX_PLACE
from ucloud.base.clock import timestamp
from ucloud.base.errors import Conflict, Invalid, RateLimited, Temporary, Unauthenticated
from ucloud.model.bookkeeping import Ticket
from ucloud.model.decision import absent, unchanged
from ucloud.model.record import encode
from ucloud.model.vm import Vm

routes = Blueprint("console", __name__)

SUBPROTOCOL = Subprotocol("ucloud.console")
TICKET_S = 60.0
MAX_TICKETS = 32  # of one VM, not used yet
SILENCE_S = 60.0  # hosts ask their viewers every 15 s whether they live
HANDSHAKE = {  # with the host: without extensions, like that with the client, as what they say then is passed on as it is
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


class ConsoleOpen(Struct, frozen=True):
    read_only: Annotated[bool, Meta(description="only look on")] = False
    take: Annotated[bool, Meta(description="take over the typing, if somebody else has it")] = False
    after: Annotated[int, Meta(ge=0, le=MAX_PLACE, description="go on from this place in the log")] | UnsetType = UNSET


class ConsoleTicket(Struct, frozen=True):
    """url: of the WebSocket. ticket: opens it once, until `expires`; offer it as a subprotocol, next to ucloud.console."""

    url: str
    ticket: str
    expires: Timestamp


class ConsoleQuery(Struct, frozen=True):
    ticket: Annotated[str, Meta(max_length=200, description="for clients that cannot offer it as a subprotocol")] = ""


@routes.post("/v1/vms/<reference>/actions/console")
@describe("Open a console", body=ConsoleOpen, answer=ConsoleTicket, status=201, errors=(Conflict, RateLimited))
def create_ticket(reference: str, body: ConsoleOpen) -> ConsoleTicket:
    """Binary messages are what the guest says, and what you type. Text messages are JSON objects: to you, `notice` for people,
    `typing` (whether what you type reaches the guest), and `at` (the place in the log of the binary message that comes next;
    give the place that you have reached as `after` to go on there later); from you, {"take": true} takes over the typing. Of
    all that look on, one types: who came first, or took over."""
    vm = found(Vm, "vm", reference, PROJECT).record
    if vm.deleted_at:
        raise Conflict("the VM is being deleted")
    store, ticket = services().store, secrets.token_urlsafe(24)
    if len(store.list(Ticket.at(vm.id, ""), limit=MAX_TICKETS).items) >= MAX_TICKETS:
        raise RateLimited("too many consoles of this VM were asked for and not opened; wait a minute")
    record = Ticket(vm=vm.id, digest=digest_of(ticket), **given(body))
    store.commit({record.key: encode(record)}, (), [absent(record.key)], lease=store.grant(TICKET_S))
    scheme = "wss" if request.scheme == "https" else "ws"
    expires = timestamp(services().clock.now_s() + TICKET_S)
    return ConsoleTicket(f"{scheme}://{request.host}/v1/vms/{vm.id}/console", ticket, expires)


def digest_of(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()


@routes.get("/v1/vms/<reference>/console", websocket=True)
@routes.get("/v1/vms/<reference>/console")
@describe(
    "The WebSocket of a console", query=ConsoleQuery, answer="application/octet-stream", status=101, errors=(Unauthenticated,)
)
def open_console(reference: str, query: ConsoleQuery) -> Response:
    """Needs a ticket, see `POST /v1/vms/<id>/actions/console`."""
    shaken = ServerProtocol(select_subprotocol=choose).accept(Request(request.path, Headers(request.headers.items())))
    if shaken.status_code != 101:
        raise Invalid("this is a WebSocket (version 13): ask for it with a client for these")
    id = find("vm", reference, PROJECT)
    offered = [text.strip() for text in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    with ExitStack() as held:
        held.enter_context(services().consoles.take())
        ticket = use(id, [text for text in (query.ticket, *offered) if text and text != SUBPROTOCOL])
        sight = phase.gather(fresh(), found(Vm, "vm", id, PROJECT))
        if not sight.placed:
            raise Conflict("the VM has no host yet, so nothing is to be seen", {"phase": phase.state(sight).phase})
        response = held.enter_context(host_daemon.asking(sight, "the console", host_url(ticket), headers=HANDSHAKE))
        if response.status_code != 101:
            raise Temporary(f"the console is on {sight.host_name}, which does not open it", retry_s=2)
        stream, view = response.extensions["network_stream"], services().view
        first = stream.read(CHUNK_BYTES, timeout=host_daemon.CONNECT_S)
        server = stream.get_extra_info("socket")
        return Upgraded(shaken.headers.items(), server, first, SILENCE_S, held.pop_all(), lambda: view.is_stopping)


def choose(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def use(vm: str, offered: list[str]) -> Ticket:
    """Raises Unauthenticated where none of these opens a console of this VM."""
    for text in offered[:2]:
        fact = get(Ticket, Ticket.at(vm, digest_of(text)))
        if fact is None:
            continue
        try:
            services().store.commit({}, [fact.key], [unchanged(fact)])
        except Conflict:
            break  # somebody was faster
        return fact.record
    raise Unauthenticated("this ticket is unknown, used, or too old; ask for another one")


def host_url(ticket: Ticket) -> str:
    wishes = {"after": ticket.after, "read_only": int(ticket.read_only), "take": int(ticket.take)}
    return f"/v1/vm/{ticket.vm}/console?{urlencode({name: value for name, value in wishes.items() if value is not None})}"
