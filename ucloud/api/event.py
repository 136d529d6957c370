"""/v1/events: what happened, newest first, or as it happens.

They are read from a view of their own (`Services.events`), so that nobody who looks at VMs waits for one who looks at events.
"""

import heapq
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Annotated, TypeAlias

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api.describe import describe
from ucloud.api.fields import NO_CONTROLS, Cursor, Id, Limit, Timestamp, ruled
from ucloud.api.records import PROJECT, find
from ucloud.api.services import Services, services
from ucloud.base.clock import parse_timestamp, timestamp
from ucloud.base.errors import Invalid, NotFound, Temporary
from ucloud.base.ids import is_id
from ucloud.model import sense
from ucloud.model.event import Event
from ucloud.model.host import Host
from ucloud.model.record import Fact, decode
from ucloud.store.contract import Store
from ucloud.store.view import View

routes = Blueprint("event", __name__)

STREAM = "text/event-stream"
HEARTBEAT_S = 10.0
RETRY_MS = 1000  # after which a client that was cut off asks again
POSITION = re.compile(r"([0-9]{1,18})\.([0-9a-z-]{1,100})")
OF_HEARTBEAT = ("silent", "heard")
DECLARED = "declared dead"
SCHEDULER, HOSTMANAGER = OF_CONTROL = "scheduler", "hostmanager"
AFTER_ALL = "~"  # sorts behind every id
SCOPES = {"vm": (PROJECT,), "image": (PROJECT,), "host": ()}

Position: TypeAlias = tuple[int, str]  # the revision at which an event was written, and its id


def is_time(text: str) -> bool:
    try:
        parse_timestamp(text)
    except (ValueError, OverflowError):
        return False
    return text.endswith("Z")


About = Annotated[str, ruled("NOUN/NAME or NOUN/ID, as in vm/web", pattern=NO_CONTROLS, max_length=200)]
Time = Annotated[str, ruled("a time in UTC, as in 2026-11-22T14:51:31Z", is_time, max_length=40)]


class EventQuery(Struct, frozen=True, kw_only=True):
    limit: Limit = 100
    cursor: Cursor = ""
    about: Annotated[About | UnsetType, Meta(description="only those about this VM, image or host: vm/web")] = UNSET
    since: Annotated[Time | UnsetType, Meta(description="only those that happened then or later")] = UNSET
    follow: Annotated[bool, Meta(description="go on with each event as it happens, as server-sent events")] = False


class EventShown(Struct, frozen=True, kw_only=True):
    """What happened, and why, as the one tells it who did it."""

    id: Id
    time: Annotated[Timestamp, Meta(description="by the clock of the one who tells it")]
    who: Annotated[str, Meta(description="who tells it: a host, by its name, or a loop of the control daemon")]
    verb: Annotated[str, Meta(description="what happened: placed, waits, told, running, crashed, silent, …")]
    about: Annotated[str, Meta(description="what it happened to: vm/ID, image/ID, host/ID, …")]
    name: Annotated[str, Meta(description="what that was called then; empty where it has no name")]
    reason: str


class EventPage(Struct, frozen=True):
    events: list[EventShown]
    next_cursor: str | None


@routes.get("/v1/events")
@describe("List events, or follow them", query=EventQuery, answer=EventPage, stream="text/event-stream", errors=(NotFound,))
def list_events(query: EventQuery) -> EventPage | Response:
    """Newest first. Each host and each control loop keeps its newest ones. With `follow`, or where text/event-stream is asked
    for, they come as server-sent events, each as it is told, which may be a second after one that happened later: from now on,
    from `since` on, or after the Last-Event-ID."""
    about = about_of(query.about) if query.about is not UNSET else ""
    since = timestamp(parse_timestamp(query.since)) if query.since is not UNSET else ""
    if query.follow or request.accept_mimetypes.best == STREAM:
        return _stream(about, since)
    if query.cursor and not re.fullmatch(r"[0-9a-z]{26}", query.cursor):
        raise Invalid("cursor: must be the next_cursor of an earlier answer", {"cursor": "not of this list"})
    with services().events.reading() as view:
        facts = [
            fact
            for fact in view.all(Event).values()
            if fits(fact.record, about, since) and (not query.cursor or fact.record.id < query.cursor)
        ]
        newest = heapq.nlargest(query.limit, facts, key=lambda fact: fact.record.id)
        cursor = newest[-1].record.id if len(facts) > query.limit else None
    return EventPage([show(fact.record, services()) for fact in newest], cursor)


def about_of(text: str) -> str:
    """The key of what NOUN/NAME or NOUN/ID names, which need not be there any more. Raises Invalid, NotFound."""
    noun, _, reference = text.partition("/")
    if not noun or not reference:
        raise Invalid("about: must be NOUN/NAME or NOUN/ID, as in vm/web", {"about": "must be NOUN/NAME or NOUN/ID"})
    if noun in SCOPES and not is_id(reference):
        return f"{noun}/{find(noun, reference, *SCOPES[noun])}"
    return text


def fits(event: Event, about: str, since: str) -> bool:
    return about in ("", event.about) and (not since or event.time >= since)


def show(event: Event, services: Services) -> EventShown:
    name = event.name
    if event.about.startswith(Host.prefix):
        name = host_called(event.about.removeprefix(Host.prefix), services)
    return EventShown(
        id=event.id,
        time=event.time,
        who=host_called(event.writer, services),
        verb=event.verb,
        about=event.about,
        name=name,
        reason=event.reason,
    )


def host_called(id: str, services: Services) -> str:
    """A host's name; what is not the id of a host stays as it is."""
    if not id.startswith("host-"):
        return id
    with suppress(Temporary), services.view.reading() as view:
        if host := view.get(Host, Host.at(id)):
            return host.record.name
    return id


def told_by(store: Store, writers: Iterable[str]) -> list[Event]:
    """All that these writers keep, oldest first, as the store has it now. What cannot be read or makes no sense is left
    out."""
    events = []
    for writer in writers:
        for item in store.list(Event.at(writer, "")).items:
            with suppress(msgspec.DecodeError):
                event = decode(Event, item.value)[0]
                sense.check(item.key, event)
                events.append(event)
    return sorted(events, key=lambda event: event.id)


def tells_of_heartbeat(event: Event, host: str) -> bool:
    """That it fell silent, or is heard of again. What a host says of itself is no proof."""
    return event.writer == SCHEDULER and event.about == Host.at(host) and event.verb in OF_HEARTBEAT


def tells_of_host(event: Event, host: str) -> bool:
    """What befell a host: silent, declared dead, fenced, heard again, in use again. Not what it says of itself."""
    return event.about == Host.at(host) and (event.writer == HOSTMANAGER or tells_of_heartbeat(event, host))


def declared_dead(events: Iterable[Event], since: str) -> list[str]:
    """The hosts that were, from that time on; the latest one last. events: oldest first."""
    told = (event for event in events if event.writer == HOSTMANAGER and event.verb == DECLARED and event.time > since)
    hosts = [event.about.removeprefix(Host.prefix) for event in told]
    return list(dict.fromkeys(reversed(hosts)))[::-1]


def silent_since(events: Iterable[Event], host: str) -> str | None:
    """Since when nobody has heard of a host that is down: that stands in no record, but the scheduler has told of it, if it was
    watching then. events: oldest first."""
    told = [event for event in events if tells_of_heartbeat(event, host)]
    return told[-1].time if told and told[-1].verb == "silent" else None


def _stream(about: str, since: str) -> Response:
    """Raises Temporary when all places are taken, or while the view is too old."""
    given = request.headers.get("Last-Event-ID", "")
    match = POSITION.fullmatch(given)
    if given and not match:
        raise Invalid("Last-Event-ID: must be the id of an event that was sent", {"Last-Event-ID": "unknown"})
    with services().events.reading() as view:
        now = (view.seen(Event.prefix), AFTER_ALL)
    last = (int(match[1]), match[2]) if match else (0, "") if since else now
    place = services().watchers.take()
    place.__enter__()
    response = Response(_follow(services(), min(last, now), about, since), mimetype=STREAM)
    response.call_on_close(lambda: place.__exit__(None, None, None))
    response.headers["Cache-Control"] = "no-store"
    return response


def _follow(services: Services, position: Position, about: str, since: str) -> Iterator[str]:
    """Until the client goes away or the server stops. By its position, which has nothing to do with clocks, nothing is sent
    twice or left out."""
    events, seen = services.events, -1
    yield f"retry: {RETRY_MS}\n\n"

    def is_new(view: View) -> bool:
        return view.seen(Event.prefix) > seen

    while not events.is_ending:
        news: list[tuple[Position, Event]] = []
        with suppress(Temporary), events.reading() as view:
            seen = view.seen(Event.prefix)
            news = sorted((place, fact.record) for fact in view.all(Event).values() if (place := position_of(fact)) > position)
        for position, event in news:
            if fits(event, about, since):
                data = json.dumps(msgspec.to_builtins(show(event, services)))  # ASCII: some clients know more ends of lines
                yield f"id: {position[0]}.{position[1]}\ndata: {data}\n\n"
        if not events.wait_until(is_new, HEARTBEAT_S):
            yield ": nothing new\n\n"


def position_of(fact: Fact[Event]) -> Position:
    """When it was written, not when it happened: that is told late now and then."""
    return fact.revision, fact.record.id
