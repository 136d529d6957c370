"""Lists: pages, cursors, filters, and what may stand in a URL."""

import pytest

from tests.unit.api.cloud import Cloud
from ucloud import __version__


@pytest.fixture
def filled(cloud: Cloud) -> Cloud:
    """Three of everything, of which the second has the label tier=front."""
    for number in range(3):
        cloud.add_host(f"h{number}")
        cloud.add_image(f"image{number}")
        cloud.ok("POST", "/v1/vms", status=202, json={"name": f"vm{number}", "image": "image0", "networks": []})
        labels = {"tier": "front", "spare": ""} if number == 1 else {}
        cloud.ok("POST", "/v1/networks", status=201, json={"name": f"net{number}", "labels": labels})
    for path in ("/v1/hosts/h1", "/v1/images/image1", "/v1/vms/vm1"):
        cloud.ok("PATCH", path, json={"labels": {"tier": "front", "spare": ""}})
    cloud.catch_up()
    return cloud


NOUNS = [("vms", "vm"), ("images", "image"), ("hosts", "h"), ("networks", "net")]


@pytest.mark.parametrize(("noun", "name"), NOUNS)
def test_pages_and_filters(filled: Cloud, noun: str, name: str) -> None:
    def names(query: str) -> list[str]:
        return [thing["name"] for thing in filled.ok("GET", f"/v1/{noun}?{query}")[noun]]

    everything = names("")
    assert sorted(everything) == [f"{name}{number}" for number in range(3)]
    first = filled.ok("GET", f"/v1/{noun}?limit=2")
    rest = filled.ok("GET", f"/v1/{noun}?limit=2&cursor={first['next_cursor']}")
    assert [thing["name"] for thing in first[noun] + rest[noun]] == everything
    assert rest["next_cursor"] is None
    third = filled.ok("GET", f"/v1/{noun}/{name}2")[noun.removesuffix("s")]
    assert names(f"name={name}2") == names(f"name={third['id']}") == [f"{name}2"]
    assert names("label=tier") == names("label=tier=front") == names("label=spare=") == [f"{name}1"]
    assert names("label=tier=back") == names("label=tier=") == names("name=other") == []
    assert names(f"label=tier=front&name={name}0") == []


@pytest.mark.parametrize("noun", ["vms", "images", "hosts", "pools", "networks", "internal/vm/"])
@pytest.mark.parametrize(
    "cursor", ["nonsense", "vm", "1", "event/x/1", "%00", "%F0%9F%98%80", "vm%2F%0A", "a" * 600, "../vm/x", "vm/", "pool/"]
)
def test_cursors_of_another_list(filled: Cloud, noun: str, cursor: str) -> None:
    assert list(filled.refused(422, "GET", f"/v1/{noun}?cursor={cursor}")["details"]) == ["cursor"]


def test_a_cursor_whose_thing_is_gone_goes_on_behind_it(filled: Cloud) -> None:
    first = filled.ok("GET", "/v1/vms?limit=1")
    rest = filled.ok("GET", "/v1/vms?limit=2")["vms"][1]
    filled.forget(first["vms"][0]["id"])
    assert filled.ok("GET", f"/v1/vms?limit=1&cursor={first['next_cursor']}")["vms"] == [rest]


@pytest.mark.parametrize(
    "query", ["limit=1.5", "limit=", "limit=9999999999999999999999", "name=A", "label==", "x=1", "limit=1&x"]
)
@pytest.mark.parametrize("noun", ["vms", "images", "hosts"])
def test_bad_parameters(cloud: Cloud, noun: str, query: str) -> None:
    cloud.refused(422, "GET", f"/v1/{noun}?{query}")


@pytest.mark.parametrize("path", ["/healthz", "/v1/vms/vm0", "/v1/actions/x.1.create", "/openapi.json", "/v1/pools/default"])
def test_no_parameter_is_ignored(filled: Cloud, path: str) -> None:
    assert list(filled.refused(422, "GET", f"{path}?colour=red")["details"]) == ["colour"]


def test_head_and_options(filled: Cloud) -> None:
    got, asked = filled.http.get("/v1/vms/vm0"), filled.http.head("/v1/vms/vm0")
    assert (asked.status_code, asked.data, asked.headers["ETag"]) == (200, b"", got.headers["ETag"])
    assert asked.headers["Content-Length"] == got.headers["Content-Length"]
    assert filled.http.head("/v1/vms/other").status_code == 404
    assert {"GET", "PATCH", "DELETE"} <= set(filled.http.options("/v1/vms/vm0").headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ["/v1/vms", "/nothing", "/docs"])
def test_every_answer_says_its_version(cloud: Cloud, path: str) -> None:
    headers = cloud.http.get(path).headers
    assert (headers["X-Ucloud-Version"], headers["Cache-Control"]) == (__version__, "no-store")
