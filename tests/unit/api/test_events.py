"""Events: listed, newest first, and followed as they happen."""

import json
from collections.abc import Generator

import pytest
from werkzeug.test import TestResponse

from tests.unit.api.cloud import NOW, Cloud
from ucloud.api import event as api
from ucloud.base.clock import parse_timestamp, timestamp
from ucloud.base.ids import ulid
from ucloud.model.event import Event

NOW_S = parse_timestamp(NOW)


def put(cloud: Cloud, writer: str, s: float, verb: str, about: str = "vm/vm-a", name: str = "web") -> Event:
    """`s` seconds after NOW."""
    when_s = NOW_S + s
    event = Event(
        id=ulid(when_s), writer=writer, time=timestamp(when_s), verb=verb, about=about, name=name, reason=f"why {verb}"
    )
    cloud.put(event)
    return event


def verbs(cloud: Cloud, query: str = "") -> list[str]:
    return [event["verb"] for event in cloud.ok("GET", f"/v1/events{query}")["events"]]


def follow(cloud: Cloud, query: str = "", position: str = "") -> Generator[tuple[str, str], None, None]:
    """Position and verb of each event that is sent; signs of life are left out."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": position} if position else {})
    response = cloud.http.get(f"/v1/events{query}", headers=headers)
    assert response.mimetype == "text/event-stream"
    return sent(response)


def sent(response: TestResponse) -> Generator[tuple[str, str], None, None]:
    id = ""
    try:
        for chunk in response.iter_encoded():
            for line in chunk.decode().splitlines():
                field, _, text = line.partition(": ")
                if field == "id":
                    id = text
                if field == "data":
                    yield id, json.loads(text)["verb"]
    finally:
        response.close()


def test_newest_first_and_page_by_page(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    put(cloud, "scheduler", 1, "placed")
    put(cloud, host, 3, "running")
    put(cloud, host, 2, "starting")
    first = cloud.ok("GET", "/v1/events?limit=2")
    assert [(event["verb"], event["who"], event["name"]) for event in first["events"]] == [
        ("running", "h1", "web"),
        ("starting", "h1", "web"),
    ]
    rest = cloud.ok("GET", f"/v1/events?limit=2&cursor={first['next_cursor']}")
    assert [event["verb"] for event in rest["events"]] == ["placed"]
    assert rest["next_cursor"] is None


def test_those_about_one_thing_by_name_or_id_also_when_it_is_gone(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    cloud.add_image()
    web, _ = cloud.add_vm("web")
    put(cloud, "scheduler", 1, "placed", f"vm/{web}")
    put(cloud, "scheduler", 2, "silent", f"host/{host}", "")
    put(cloud, "scheduler", 3, "forgotten", "vm/vm-01kd2g5x8p6q0v3n9r7t4w1y2z")
    assert verbs(cloud, "?about=vm/web") == verbs(cloud, f"?about=vm/{web}") == ["placed"]
    assert cloud.ok("GET", "/v1/events?about=host/h1")["events"][0]["name"] == "h1"
    assert verbs(cloud, "?about=vm/vm-01kd2g5x8p6q0v3n9r7t4w1y2z") == ["forgotten"]
    assert verbs(cloud, "?about=lock/scheduler") == []
    cloud.refused(404, "GET", "/v1/events?about=vm/nobody")


def test_those_since_a_time(cloud: Cloud) -> None:
    for s, verb in enumerate(("placed", "starting", "running")):
        put(cloud, "scheduler", s, verb)
    assert verbs(cloud, f"?since={timestamp(NOW_S + 1)}") == ["running", "starting"]
    whole_second = timestamp(NOW_S)[:19] + "Z"
    assert len(verbs(cloud, f"?since={whole_second}")) == 3


@pytest.mark.parametrize(
    "query",
    ["about=web", "about=vm/", "since=yesterday", "since=2026-11-22", "cursor=event/1", "limit=0", "follow=2", "what=1"],
)
def test_bad_queries_are_refused(cloud: Cloud, query: str) -> None:
    assert query.split("=")[0] in cloud.refused(422, "GET", f"/v1/events?{query}")["details"]


def test_each_is_sent_as_it_happens_and_once(cloud: Cloud) -> None:
    put(cloud, "scheduler", 0, "old")
    from_now, from_then = follow(cloud), follow(cloud, f"?since={timestamp(NOW_S)}&follow=true")
    first = put(cloud, "scheduler", 1, "placed")
    assert [next(from_then)[1], next(from_then)[1]] == ["old", "placed"]
    position, verb = next(from_now)
    assert verb == "placed"
    assert position.endswith(first.id)
    put(cloud, "host-2", -100, "told by a clock that is behind")
    resumed = follow(cloud, position=position)
    assert next(from_now)[1] == next(resumed)[1] == "told by a clock that is behind"
    for stream in (from_now, from_then, resumed):
        stream.close()


def test_only_those_that_were_asked_for_are_sent(cloud: Cloud) -> None:
    stream = follow(cloud, f"?since={timestamp(NOW_S)}&about=vm/vm-01kd2g5x8p6q0v3n9r7t4w1y2z")
    put(cloud, "scheduler", 1, "placed")
    put(cloud, "scheduler", 2, "waits", "vm/vm-01kd2g5x8p6q0v3n9r7t4w1y2z")
    assert next(stream)[1] == "waits"
    stream.close()


def test_no_text_of_a_stranger_ends_a_line(cloud: Cloud) -> None:
    stream = follow(cloud)
    put(cloud, "host-2", 1, "a\u2028id: 9.x\x85data: {}")
    put(cloud, "scheduler", 2, "placed")
    assert [next(stream)[1], next(stream)[1]] == ["a\u2028id: 9.x\x85data: {}", "placed"]
    stream.close()


def test_a_position_that_was_never_sent_is_refused(cloud: Cloud) -> None:
    cloud.refused(422, "GET", "/v1/events?follow=true", headers={"Last-Event-ID": "7"})


def test_a_silent_cloud_gives_signs_of_life_and_a_stopping_server_ends_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "HEARTBEAT_S", 0.01)
    response = cloud.http.get("/v1/events?follow=true")
    chunks = response.iter_encoded()
    assert next(chunks).startswith(b"retry: ")
    assert next(chunks) == b": nothing new\n\n"
    cloud.services.end_waits()
    assert len(list(chunks)) <= 1
    response.close()


def test_only_so_many_may_follow(cloud: Cloud) -> None:
    places = cloud.services.watchers
    taken = [places.take() for _ in range(12)]
    for place in taken:
        place.__enter__()
    cloud.refused(503, "GET", "/v1/events?follow=true")
    for place in taken:
        place.__exit__(None, None, None)
    response = cloud.http.get("/v1/events?follow=true")
    assert places.taken == 1
    response.close()
    assert places.taken == 0
