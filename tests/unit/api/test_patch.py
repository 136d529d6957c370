"""PATCH: names, labels, protection; what If-Match says is heeded."""

from typing import Any

import pytest

from tests.unit.api.cloud import NOW, Cloud
from ucloud.model.bookkeeping import Unique
from ucloud.model.image import Image
from ucloud.model.vm import Placement, Vm
from ucloud.scheduler import decide
from ucloud.store.view import View


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    """A host h1, an image tiny, a VM web."""
    cloud.add_host()
    cloud.add_image()
    cloud.add_vm()
    return cloud


THINGS = [("/v1/vms/web", "vm"), ("/v1/images/tiny", "image"), ("/v1/hosts/h1", "host")]


def etag(cloud: Cloud, path: str) -> str:
    return cloud.http.get(path).headers["ETag"]


@pytest.mark.parametrize(("path", "noun"), THINGS)
def test_a_change_moves_the_etag_and_heeds_if_match(ready: Cloud, path: str, noun: str) -> None:
    before = etag(ready, path)
    answer = ready.http.patch(path, json={"labels": {"a": "b"}}, headers={"If-Match": before})
    assert (answer.status_code, answer.get_json()[noun]["labels"]) == (200, {"a": "b"})
    after = answer.headers["ETag"]
    assert after == etag(ready, path) != before
    for stale in (before, f"W/{after}", '"0"', "", "x", after.strip('"')):
        error = ready.refused(412, "PATCH", path, json={"labels": {"a": "c"}}, headers={"If-Match": stale})
        assert error["code"] == "precondition_failed"
    assert etag(ready, path) == after
    ready.ok("PATCH", path, json={"labels": {"a": "d"}}, headers={"If-Match": f'"0", {after}'})
    ready.ok("PATCH", path, json={"labels": {}}, headers={"If-Match": "*"})


@pytest.mark.parametrize(("path", "noun"), THINGS)
def test_a_change_that_is_repeated_after_its_answer_was_lost(ready: Cloud, path: str, noun: str) -> None:
    """Nothing is written again, and the tag of before is no obstacle."""
    before = etag(ready, path)
    again = [ready.http.patch(path, json={"labels": {"a": "b"}}, headers={"If-Match": before}) for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 200]
    assert again[0].headers["ETag"] == again[1].headers["ETag"]
    assert ready.ok("PATCH", path, json={})[noun]["labels"] == {"a": "b"}


@pytest.mark.parametrize(("path", "noun"), THINGS)
def test_a_new_name_takes_the_place_of_the_old_one(ready: Cloud, path: str, noun: str) -> None:
    id = ready.ok("GET", path)[noun]["id"]
    scope = "unique/host/" if noun == "host" else f"unique/{noun}/default/"
    old, base = path.rpartition("/")[2], path.rpartition("/")[0]
    assert ready.ok("PATCH", path, json={"name": "other"})[noun]["name"] == "other"
    assert ready.ok("GET", f"{base}/other")[noun]["id"] == id
    ready.refused(404, "GET", path)
    assert ready.store.get(f"{scope}{old}") is None
    assert ready.read(Unique, f"{scope}other").owner == id
    assert ready.ok("PATCH", f"{base}/{id}", json={"name": "other"})[noun]["name"] == "other"
    assert ready.ok("PATCH", f"{base}/other", json={"name": old})[noun]["id"] == id


@pytest.mark.parametrize(("path", "noun"), THINGS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", name) for name in ("", "Web", None, "vm-01kam000000000000000000000")),
        ("labels", []),
        ("id", "x"),
        ("x", 1),
    ],
)
def test_bad_changes(ready: Cloud, path: str, noun: str, field: str, value: Any) -> None:
    assert list(ready.refused(422, "PATCH", path, json={field: value})["details"]) == [field]


def test_a_name_that_is_taken(ready: Cloud) -> None:
    ready.add_vm("db")
    before = etag(ready, "/v1/vms/web")
    assert ready.refused(409, "PATCH", "/v1/vms/web", json={"name": "db"})["details"] == {"name": "taken"}
    assert etag(ready, "/v1/vms/web") == before


def test_a_name_that_somebody_takes_meanwhile(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, raced = ready.store.commit, []

    def race(*arguments: Any, **more: Any) -> int:
        if not raced:
            raced.append("once")
            ready.add_vm("db")
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    assert ready.refused(409, "PATCH", "/v1/vms/web", json={"name": "db"})["details"] == {"name": "taken"}
    assert ready.ok("GET", "/v1/vms/web")["vm"]["name"] == "web"


def test_a_renamed_vm_is_forgotten_under_its_new_name(ready: Cloud) -> None:
    """The scheduler removes the name that the record has, and nothing if it changed meanwhile."""
    id = ready.ok("GET", "/v1/vms/web")["vm"]["id"]
    ready.put(Placement(vm=id, host="", epoch=0, since=NOW, reason="no room"))
    ready.ok("PATCH", "/v1/vms/web", json={"name": "other"})
    ready.ok("DELETE", "/v1/vms/other", status=202)
    view = View(
        ready.store, ("vm/", "placement/", "host/", "manifest/", "status/", "pool/"), ready.services.clock, lambda: None
    )
    view.refresh()
    (decision,) = decide.decide(view, 0.0)
    view.close()
    assert decision.verb == "forget"
    ready.store.commit({}, decision.deletes, decision.requires)
    left = [item.key for item in ready.store.list("unique/vm/").items]
    assert left == []


def test_a_deleted_vm_does_not_change(ready: Cloud) -> None:
    ready.ok("DELETE", "/v1/vms/web", status=202)
    ready.refused(409, "PATCH", "/v1/vms/web", json={"name": "other"})


@pytest.mark.parametrize(
    ("path", "noun", "kind"), [("/v1/vms/web", "vm", Vm), ("/v1/images/spare", "image", Image)], ids=["vm", "image"]
)
def test_what_is_protected_is_not_deleted(ready: Cloud, path: str, noun: str, kind: Any) -> None:
    ready.add_image("spare")
    shown = ready.ok("GET", path)[noun]
    assert shown["delete_protection"] is False
    assert ready.ok("PATCH", path, json={"delete_protection": True})[noun]["delete_protection"] is True
    error = ready.refused(409, "DELETE", path)
    assert f"ucloud {noun} set {shown['name']} delete_protection=false" in error["message"]
    assert "PATCH" in error["message"]
    assert ready.read(kind, kind.at(shown["id"])).deleted_at == ""
    ready.ok("PATCH", path, json={"delete_protection": False})
    before = etag(ready, path)
    ready.refused(412, "DELETE", path, headers={"If-Match": '"0"'})
    deleted = ready.ok("DELETE", path, status=202, headers={"If-Match": before})
    again = ready.ok("DELETE", path, status=202, headers={"If-Match": before})
    assert again["action"]["id"] == deleted["action"]["id"]


def test_protection_from_the_beginning(ready: Cloud) -> None:
    ready.add_vm("db", delete_protection=True)
    ready.refused(409, "DELETE", "/v1/vms/db")
    ready.refused(422, "POST", "/v1/vms", json={"name": "x", "image": "tiny", "delete_protection": "yes"})
