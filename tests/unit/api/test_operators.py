"""What operators use: hosts, pools, raw records, health, figures; and what every answer has in common."""

from typing import Any

import httpx
import pytest

from tests.unit.api.cloud import Cloud
from ucloud.api.services import Services, host_client
from ucloud.base.errors import Temporary
from ucloud.model.host import Alive, Endpoint, Host
from ucloud.model.secret import Secret


def test_hosts(cloud: Cloud) -> None:
    made = cloud.ok("POST", "/v1/hosts", json={"name": "h1", "cpus": 2, "memory_mib": 1024}, status=201)["host"]
    assert (made["name"], made["state"], made["id"][:5]) == ("h1", "down", "host-")
    cloud.refused(409, "POST", "/v1/hosts", json={"name": "h1"})
    cloud.refused(422, "POST", "/v1/hosts", json={"name": "h2", "cpus": 0, "drain": True})
    id = cloud.add_host("h2", cpus=4, memory_mib=4096)
    cloud.add_image()
    vm, _ = cloud.add_vm(cpus=2, memory_mib=1000)
    cloud.run(vm, id)
    first, second = cloud.ok("GET", "/v1/hosts")["hosts"]
    shown = second if second["id"] == id else first
    assert shown == cloud.ok("GET", f"/v1/hosts/{id}")["host"]
    assert {
        "state": "up",
        "cpus": 4,
        "memory_mib": 4096,
        "cpus_used": 2,
        "memory_used_mib": 1000,
        "vms": 1,
    }.items() <= shown.items()
    cloud.store.commit({}, [Alive.at(id)])
    cloud.catch_up()
    assert cloud.ok("GET", "/v1/hosts?name=h2")["hosts"][0]["state"] == "down"
    cloud.refused(404, "GET", "/v1/hosts/h3")


def test_a_disabled_host_is_not_up(cloud: Cloud) -> None:
    id = cloud.add_host()
    cloud.put(Host(id=id, name="h1", enabled=False, created=""))
    cloud.catch_up()
    assert cloud.ok("GET", "/v1/hosts")["hosts"][0]["state"] == "disabled"


def test_what_is_wanted_of_a_host_changes(cloud: Cloud) -> None:
    id = cloud.add_host("h1", cpus=4, memory_mib=4096)
    cloud.catch_up()
    changed = cloud.ok("PATCH", "/v1/hosts/h1", json={"enabled": False, "labels": {"rack": "r1"}, "cpus": 2})["host"]
    assert (changed["state"], changed["labels"], changed["cpus"]) == ("disabled", {"rack": "r1"}, 2)
    revision = cloud.revision(Host.at(id))
    cloud.ok("PATCH", "/v1/hosts/h1", json={"cpus": 2})
    assert cloud.revision(Host.at(id)) == revision, "what changes nothing writes nothing"
    changed = cloud.ok("PATCH", f"/v1/hosts/{id}", json={"enabled": True, "labels": {}})["host"]
    assert (changed["state"], changed["labels"], changed["cpus"]) == ("up", {}, 2)
    error = cloud.refused(422, "PATCH", "/v1/hosts/h1", json={"enabled": "yes", "cpus": -1, "drain": True})
    assert set(error["details"]) == {"enabled", "cpus", "drain"}
    cloud.refused(404, "PATCH", "/v1/hosts/h9", json={"enabled": True})


def test_pools(cloud: Cloud) -> None:
    made = cloud.ok("POST", "/v1/pools", json={"name": "default", "path": "/var/lib/ucloud/pool"}, status=201)["pool"]
    cloud.catch_up()
    assert cloud.ok("GET", "/v1/pools")["pools"] == [made]
    assert cloud.ok("GET", "/v1/pools?name=default")["pools"] == [made]
    assert cloud.ok("GET", "/v1/pools?name=other")["pools"] == []
    assert cloud.ok("GET", "/v1/pools/default")["pool"] == made
    cloud.refused(409, "POST", "/v1/pools", json={"name": "default", "path": "/x"})
    cloud.refused(404, "GET", "/v1/pools/other")
    for path in ("relative", "/a/../b", "", "/a\0", 5):
        assert list(cloud.refused(422, "POST", "/v1/pools", json={"name": "p", "path": path})["details"]) == ["path"]


def test_raw_records(cloud: Cloud) -> None:
    id = cloud.add_host()
    cloud.store.commit({"strange/1": b"\xff"})
    answer = cloud.ok("GET", f"/v1/internal/status/{id}/endpoint")
    assert answer["records"][0]["value"]["url"] == "http://[::1]:9"
    assert answer["records"][0]["mod_revision"] == cloud.revision(Endpoint.at(id, "endpoint"))
    assert cloud.ok("GET", "/v1/internal/strange/")["records"][0]["value"] is None
    keys: list[str] = []
    cursor = ""
    while cursor is not None:
        page = cloud.ok("GET", f"/v1/internal/?limit=2&cursor={cursor}")
        keys += [record["key"] for record in page["records"]]
        cursor = page["next_cursor"]
    assert keys == [item.key for item in cloud.store.list("").items]


def test_health(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.ok("GET", "/healthz")
    cloud.ok("GET", "/readyz")
    text = cloud.http.get("/metrics").text
    assert 'ucloud_api_requests_total{method="GET",route="/readyz",status="200"} 1.0' in text
    assert "ucloud_api_view_age_seconds" in text

    def away(*_: Any, **__: Any) -> Any:
        raise Temporary("the store does not answer", retry_s=3)

    monkeypatch.setattr(cloud.store, "get", away)
    response = cloud.http.get("/readyz")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "3")
    assert cloud.refused(503, "GET", "/v1/vms/web")["code"] == "temporary"


def test_lists_from_a_view_that_is_too_old_are_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud.api.watching.MAX_AGE_S", -1.0)
    assert "not answered" in cloud.refused(503, "GET", "/v1/vms")["message"]


def test_what_flask_refuses_has_an_envelope_too(cloud: Cloud) -> None:
    assert cloud.refused(404, "GET", "/nothing")["code"] == "not_found"
    assert cloud.refused(405, "PATCH", "/v1/vms")["code"] == "method_not_allowed"
    assert "GET" in cloud.http.patch("/v1/vms").headers["Allow"]
    assert cloud.refused(404, "GET", "/v1/cats")["code"] == "not_found"


def test_a_bug_is_a_500_with_an_envelope_and_no_details(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the inside of ucloud")

    monkeypatch.setattr(cloud.store, "get", broken)
    error = cloud.refused(500, "GET", "/v1/vms/web")
    assert (error["code"], "inside" in error["message"]) == ("internal", False)


def test_request_ids(cloud: Cloud) -> None:
    assert cloud.http.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert cloud.http.get("/healthz", headers={"X-Request-Id": "a b<>"}).headers["X-Request-Id"] != "a b<>"


class Log:
    """A host daemon that answers for logs."""

    def __init__(self, cloud: Cloud) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: httpx.Response | Exception = httpx.Response(200, content=b"\x00hello\xff\n")
        self.host = cloud.add_host()
        cloud.put(Endpoint(host=self.host, url="http://[fd00::1]:99", token=Secret("t0ken")))
        old: Services = cloud.app.extensions["ucloud"]
        self.client = host_client(httpx.MockTransport(self.handle))
        cloud.app.extensions["ucloud"] = Services(old.store, old.view, old.pools, network=old.network, hosts=self.client)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_log(cloud: Cloud) -> None:
    cloud.add_image()
    log = Log(cloud)
    vm, _ = cloud.add_vm()
    response = cloud.http.get("/v1/vms/web/log")
    assert (response.status_code, response.data, log.asked) == (200, b"", [])
    cloud.run(vm, log.host)
    response = cloud.http.get("/v1/vms/web/log")
    assert (response.data, response.mimetype, response.headers["X-Log-Truncated"]) == (
        b"\x00hello\xff\n",
        "text/plain",
        "false",
    )
    assert str(log.asked[0].url) == f"http://[fd00::1]:99/v1/vm/{vm}/log?after=0&wait=0"
    assert log.asked[0].headers["Authorization"] == "Bearer t0ken"
    log.answer = httpx.Response(200, content=b"x", headers={"X-Log-End": "9"})
    assert cloud.http.get("/v1/vms/web/log").headers["X-Log-Truncated"] == "true"


def test_nothing_that_hosts_send_is_kept(cloud: Cloud) -> None:
    cloud.add_image()
    log = Log(cloud)
    vm, _ = cloud.add_vm()
    cloud.run(vm, log.host)
    log.answer = httpx.Response(200, headers={"Set-Cookie": "a=1; Max-Age=9999999"})
    assert cloud.http.get("/v1/vms/web/log").status_code == 200
    assert len(log.client.cookies) == 0


@pytest.mark.parametrize("answer", [httpx.ConnectTimeout("slow"), httpx.ConnectError("no"), httpx.Response(401)])
def test_log_of_a_host_that_does_not_answer(cloud: Cloud, answer: httpx.Response | Exception) -> None:
    cloud.add_image()
    log = Log(cloud)
    vm, _ = cloud.add_vm()
    cloud.run(vm, log.host)
    log.answer = answer
    error = cloud.refused(503, "GET", "/v1/vms/web/log")
    assert "h1" in error["message"]
    assert "t0ken" not in str(error)


@pytest.mark.parametrize("url", ["http://[::1]:2379/v3?", "http://etcd.example:80", "https://[::1]:80", "file:///etc", ""])
def test_a_host_cannot_send_the_api_to_other_places(cloud: Cloud, url: str) -> None:
    cloud.add_image()
    log = Log(cloud)
    vm, _ = cloud.add_vm()
    cloud.run(vm, log.host)
    cloud.put(Endpoint(host=log.host, url=url, token=Secret("t0ken")))
    assert cloud.refused(503, "GET", "/v1/vms/web/log")["code"] == "temporary"
    assert log.asked == []
