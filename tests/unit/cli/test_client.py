"""The SDK: addresses, retries, errors, waiting, uploading. Its methods themselves are used by the golden transcripts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ucloud.base.errors import Conflict, Error, Forbidden, Invalid, NoCapacity, NotFound, PreconditionFailed, Temporary
from ucloud.cli import progress
from ucloud.client import DEFAULT_ADDRESSES, Client, ConfigError, TimedOut, Unreachable, addresses
from ucloud.client.transport import Transport, error_of

SIGNED = {"X-Request-Id": "r1"}


class Servers:
    """API servers by address; each answers by what stands in `answers`, which is used up but for its last entry."""

    def __init__(self, **answers: list[httpx.Response | Exception]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, httpx.Request]] = []

    def connect(self, address: str) -> httpx.Client:
        def handle(request: httpx.Request) -> httpx.Response:
            request.read()
            self.asked.append((address, request))
            left = self.answers[address]
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return httpx.Client(transport=httpx.MockTransport(handle), base_url="http://api")

    def client(self, patience_s: float = 30) -> Client:
        client = Client(["unix:/nowhere"], patience_s)
        client._transport = self.transport(patience_s)
        return client

    def transport(self, patience_s: float = 30) -> Transport:
        return Transport(list(self.answers), patience_s, self.connect)


def ok(body: Any) -> httpx.Response:
    return httpx.Response(200, json=body, headers=SIGNED)


def refusal(status: int, code: str, retry_after: str = "") -> httpx.Response:
    headers = SIGNED | ({"Retry-After": retry_after} if retry_after else {})
    body = {"error": {"code": code, "message": "why", "details": {"name": "taken"}}, "request_id": "r1"}
    return httpx.Response(status, json=body, headers=headers)


REFUSED = httpx.ConnectError("refused")
BROKEN = httpx.ReadError("broken")


def test_addresses_are_tried_in_turn_and_the_one_that_answered_is_first_next_time() -> None:
    servers = Servers(a=[REFUSED], b=[ok({})])
    transport = servers.transport()
    transport.request("GET", "/x")
    transport.request("GET", "/x")
    assert [address for address, _ in servers.asked] == ["a", "b", "b"]


def test_unreachable_says_what_was_tried() -> None:
    with pytest.raises(Unreachable) as caught:
        Servers(a=[REFUSED], b=[BROKEN]).transport(patience_s=0).request("GET", "/x")
    assert caught.value.details == {"a": "refused", "b": "broken"}


@pytest.mark.parametrize("fault", [REFUSED, BROKEN, httpx.ReadTimeout("slow"), refusal(503, "temporary", "0")])
def test_every_request_is_repeated_and_a_post_with_the_same_key(fault: httpx.Response | Exception) -> None:
    servers = Servers(a=[ok({}), fault, fault, ok({"vm": {}, "action": {}})])
    client = servers.client()
    client._transport.request("GET", "/readyz")
    client.create_vm("web", "tiny")
    keys = {request.headers["Idempotency-Key"] for _, request in servers.asked[1:]}
    assert len(servers.asked) == 4
    assert len(keys) == 1


def test_patience_ends() -> None:
    with pytest.raises(Temporary, match="why"):
        Servers(a=[refusal(503, "temporary", "1")]).transport(patience_s=0.5).request("GET", "/x")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "invalid", Invalid),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (507, "no_capacity", NoCapacity),
        (403, "something_new", Forbidden),
        (418, "teapot", Error),
        (413, "request_entity_too_large", Error),
        (503, "temporary", Temporary),
    ],
)
def test_errors_come_back_as_their_class(status: int, code: str, kind: type[Error]) -> None:
    error = error_of(refusal(status, code))
    assert type(error) is kind
    assert (error.message, error.details) == ("why", {"name": "taken"})


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": 1}', b"{}", b"\xff"])
def test_answers_without_an_envelope(body: bytes) -> None:
    assert "502" in error_of(httpx.Response(502, content=body)).message
    assert "r1" in error_of(refusal(500, "internal")).message


RUNNING = {"id": "x", "state": "running", "progress": "starting", "error": None}


def test_waiting_tells_progress_and_ends() -> None:
    servers = Servers(a=[ok({"action": RUNNING}), ok({"action": {**RUNNING, "state": "success"}})])
    told: list[str] = []
    ended = servers.client().wait(RUNNING, 60, lambda action: told.append(action["progress"]))
    assert ended["state"] == "success"
    assert told == ["starting", "starting"]
    with pytest.raises(TimedOut, match="after 0 s it is still starting"):
        Servers(a=[ok({"action": RUNNING})]).client().wait(RUNNING, 0)


def test_references_cannot_leave_their_path() -> None:
    servers = Servers(a=[ok({"vm": {}})])
    servers.client().vm("a..x?y#z")
    assert servers.asked[0][1].url.raw_path == b"/v1/vms/a..x%3Fy%23z"
    for reference in ("", ".", "..", "../x", "a/../../x"):
        with pytest.raises(NotFound):
            servers.client().vm(reference)
    assert len(servers.asked) == 1


def test_a_delete_that_is_repeated_never_meets_another_vm_of_that_name() -> None:
    """The name is looked up once; what is repeated is the delete of that id."""
    servers = Servers(a=[ok({"vm": {"id": "vm-1"}}), BROKEN, ok({"action": {}})])
    servers.client().delete_vm("web")
    assert [(r.method, r.url.path) for _, r in servers.asked] == [
        ("GET", "/v1/vms/web"),
        ("DELETE", "/v1/vms/vm-1"),
        ("DELETE", "/v1/vms/vm-1"),
    ]


def test_a_wait_that_loses_the_api_says_that_the_work_goes_on() -> None:
    servers = Servers(a=[REFUSED])
    with pytest.raises(Unreachable, match="web: no longer waiting: .* the work goes on, see: ucloud vm show web") as lost:
        progress.wait(servers.client(0), [("web", RUNNING)], 5, look="ucloud vm show web")
    assert lost.value.details == {"a": "refused"}


def test_lists_go_on_to_the_next_page() -> None:
    pages = [ok({"vms": [{"name": "a"}], "next_cursor": "vm/1"}), ok({"vms": [{"name": "b"}], "next_cursor": None})]
    servers = Servers(a=list(pages))
    assert [vm["name"] for vm in servers.client().vms(label="x=y")] == ["a", "b"]
    assert servers.asked[1][1].url.params["cursor"] == "vm/1"
    assert servers.asked[1][1].url.params["label"] == "x=y"


@pytest.mark.parametrize(
    "text", ["nonsense", "http://", "http://[::1", "http://[::1]:port", "http://a:99999", "unix:relative", "ftp://a"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        addresses({}, text)


def test_addresses_come_from_option_environment_file_or_default(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert addresses(environment) == list(DEFAULT_ADDRESSES)
    path = tmp_path / ".config" / "ucloud" / "client.toml"
    path.parent.mkdir(parents=True)
    path.write_text('api = ["http://[fd00::1]:8642"]')
    assert addresses(environment) == ["http://[fd00::1]:8642"]
    environment["UCLOUD_API"] = "unix:/a, https://b:1"
    assert addresses(environment) == ["unix:/a", "https://b:1"]
    assert addresses(environment, "http://c") == ["http://c"]


@pytest.mark.parametrize("text", ["api = 1", "api = []", "api = ['ftp://x']", "apo = ['http://x']", "api = [", "api = [1]"])
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ucloud" / "client.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"client\.toml"):
        addresses({"XDG_CONFIG_HOME": str(tmp_path)})


def tagged(tag: str, **thing: Any) -> httpx.Response:
    return httpx.Response(200, json={"vm": {"id": "vm-1", **thing}}, headers=SIGNED | {"ETag": tag})


def test_a_change_keeps_what_others_changed_meanwhile() -> None:
    before, after = tagged('"1"', labels={"a": "1", "b": "2"}), tagged('"2"', labels={"a": "1", "b": "3", "c": "4"})
    servers = Servers(a=[before, refusal(412, "precondition_failed"), after, tagged('"3"')])
    servers.client().set_vm("web", name="db", labels={"a": None, "d": "5"})
    sent = [(r.url.path, r.headers.get("If-Match"), r.content) for _, r in servers.asked if r.method == "PATCH"]
    assert sent == [
        ("/v1/vms/vm-1", '"1"', b'{"name":"db","labels":{"b":"2","d":"5"}}'),
        ("/v1/vms/vm-1", '"2"', b'{"name":"db","labels":{"b":"3","c":"4","d":"5"}}'),
    ]


def test_a_change_is_given_up_in_the_end() -> None:
    servers = Servers(
        a=[answer for _ in range(8) for answer in (tagged('"1"', labels={}), refusal(412, "precondition_failed"))]
    )
    with pytest.raises(PreconditionFailed):
        servers.client().set_vm("web", delete_protection=True)
    assert servers.asked[1][1].content == b'{"delete_protection":true}'


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"null", b""])
def test_an_answer_that_is_not_understood_is_an_error(body: bytes) -> None:
    servers = Servers(a=[httpx.Response(200, content=body, headers=SIGNED)])
    for ask in (lambda c: c.vm("web"), lambda c: list(c.vms()), lambda c: c.create_vm("a", "b"), lambda c: c.action("x")):
        with pytest.raises(Error, match="is not understood"):
            ask(servers.client())


def test_not_found_says_of_which_noun() -> None:
    with pytest.raises(NotFound) as raised:
        Servers(a=[refusal(404, "not_found")]).client().image("nope")
    assert raised.value.details["image"] == "nope"


def test_what_is_no_ucloud_api_is_passed_over() -> None:
    servers = Servers(a=[httpx.Response(502, content=b"nginx")], b=[ok({"vm": {"id": "vm-1"}})])
    assert servers.client().vm("web")["id"] == "vm-1"
    with pytest.raises(Unreachable) as raised:
        Servers(a=[httpx.Response(200, content=b"welcome")]).client().vm("web")
    assert raised.value.details == {"a": "what answers there is no ucloud API: 200 OK"}


def test_threads_share_a_client() -> None:
    servers = Servers(a=[REFUSED], b=[ok({"vm": {"id": "vm-1"}})])
    with servers.client() as client, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: client.vm("web")["id"], range(64)))
    assert found == ["vm-1"] * 64


def test_nobody_without_a_home_is_asked_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert addresses({}) == list(DEFAULT_ADDRESSES)
