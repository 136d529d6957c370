"""SSH keys over REST: added, made the default, named by VMs, deleted when none names them."""

import threading
from typing import Any

import pytest

from tests.unit.api.cloud import Cloud
from tests.unit.api.pubkeys import KEYS, MADE
from ucloud.model.bookkeeping import Unique
from ucloud.model.key import Key, Project
from ucloud.model.vm import Vm


def add(cloud: Cloud, name: str = "me", key: str = KEYS[0], **wishes: Any) -> dict[str, Any]:
    made = cloud.ok("POST", "/v1/keys", status=201, json={"name": name, "key": key, **wishes})["key"]
    cloud.catch_up()
    return dict(made)


def shown(cloud: Cloud, vm: str = "web") -> dict[str, Any]:
    return dict(cloud.ok("GET", f"/v1/vms/{vm}")["vm"])


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    cloud.add_host()
    cloud.add_image()
    return cloud


def test_a_key_is_shown_as_ssh_keygen_does(cloud: Cloud) -> None:
    line, bits, fingerprint = MADE["rsa2048"]
    made = add(cloud, "old", line + "\n", labels={"team": "a"})
    assert (made["key"], made["bits"], made["fingerprint"], made["comment"]) == (line, bits, fingerprint, "rsa 2048")
    assert (made["type"], made["labels"], made["default"], made["vms"]) == ("ssh-rsa", {"team": "a"}, False, 0)
    assert cloud.ok("GET", "/v1/keys/old")["key"] == made
    assert cloud.ok("GET", "/v1/keys?label=team%3Da")["keys"] == [made]
    assert cloud.ok("GET", f"/v1/keys?name={made['id']}")["keys"] == [made]


def test_the_same_name_or_the_same_key_is_refused(cloud: Cloud) -> None:
    add(cloud)
    error = cloud.refused(409, "POST", "/v1/keys", json={"name": "me", "key": KEYS[1]})
    assert error["details"] == {"name": "taken"}
    error = cloud.refused(409, "POST", "/v1/keys", json={"name": "you", "key": KEYS[0].replace("me@home-1", "you")})
    assert (error["details"], error["message"]) == ({"key": "taken"}, "this key is here already, as me")
    assert len(cloud.store.list("unique/").items) == 2


def test_one_of_those_who_add_the_same_key_at_once_is_told_so(cloud: Cloud) -> None:
    answers: list[int] = []

    def add_as(name: str) -> None:
        answers.append(cloud.app.test_client().post("/v1/keys", json={"name": name, "key": KEYS[0]}).status_code)

    threads = [threading.Thread(target=add_as, args=(f"me-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409, 409]


@pytest.mark.parametrize(
    ("field", "wishes"),
    [
        *(("key", {"key": key}) for key in ("", "x", 7, None, "x" * 16385, KEYS[0] + "\n" + KEYS[1])),
        *(("name", {"name": name}) for name in ("", "Me", "a b", 7)),
        *((field, {field: "x"}) for field in ("default", "labels", "project", "fingerprint")),
    ],
)
def test_what_makes_no_sense_names_the_field(cloud: Cloud, field: str, wishes: dict[str, Any]) -> None:
    error = cloud.refused(422, "POST", "/v1/keys", json={"name": "me", "key": KEYS[0], **wishes})
    assert list(error["details"]) == [field]
    assert cloud.store.list("").items == ()


def test_a_private_key_leaves_no_trace(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----\n"
    answer = cloud.http.post("/v1/keys", json={"name": "me", "key": text}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422
    assert secret not in answer.text + caplog.text
    assert cloud.store.list("").items == ()


def test_a_request_that_is_repeated_adds_one_key(cloud: Cloud) -> None:
    request: dict[str, Any] = {"json": {"name": "me", "key": KEYS[0]}, "headers": {"Idempotency-Key": "k"}}
    first, second = (cloud.ok("POST", "/v1/keys", status=201, **request)["key"]["id"] for _ in range(2))
    assert first == second
    cloud.ok("DELETE", "/v1/keys/me", status=202)
    assert cloud.ok("POST", "/v1/keys", status=201, **request)["key"] == {"id": first}


# The default key.


def test_there_is_one_default_key_at_most(cloud: Cloud) -> None:
    first, second = add(cloud, default=True), add(cloud, "you", KEYS[1], default=True)
    assert second["default"]
    assert not cloud.ok("GET", "/v1/keys/me")["key"]["default"]
    assert cloud.ok("PATCH", "/v1/keys/me", json={"default": True})["key"]["default"]
    cloud.catch_up()
    assert [key["default"] for key in cloud.ok("GET", "/v1/keys")["keys"]] == [True, False]
    assert cloud.read(Project, "project/default").default_key == first["id"]
    cloud.ok("PATCH", "/v1/keys/you", json={"default": False})
    assert cloud.read(Project, "project/default").default_key == first["id"]
    cloud.ok("PATCH", "/v1/keys/me", json={"default": False})
    assert cloud.read(Project, "project/default").default_key == ""


def test_becoming_the_default_heeds_and_moves_the_tag(cloud: Cloud) -> None:
    add(cloud)
    tag = cloud.http.get("/v1/keys/me").headers["ETag"]
    answer = cloud.http.patch("/v1/keys/me", json={"default": True}, headers={"If-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag
    cloud.ok("PATCH", "/v1/keys/me", json={"default": True}, headers={"If-Match": tag})  # it is so already
    cloud.refused(412, "PATCH", "/v1/keys/me", json={"default": False}, headers={"If-Match": tag})


def test_a_vm_that_names_no_key_gets_the_default_one(ready: Cloud) -> None:
    ready.add_vm("before")
    default = add(ready, default=True)
    add(ready, "you", KEYS[1])
    ready.add_vm("web")
    ready.add_vm("none", keys=[])
    ready.add_vm("other", keys=["you"])
    assert [shown(ready, name)["keys"] for name in ("before", "web", "none", "other")] == [[], ["me"], [], ["you"]]
    assert ready.ok("GET", "/v1/keys/me")["key"]["vms"] == 1
    assert ready.store.get(f"use/key/{default['id']}/{shown(ready)['id']}")


def test_what_was_made_the_default_a_moment_ago_counts(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where this API process has not seen it yet."""
    ready.add_vm("first")
    ready.catch_up()
    monkeypatch.setattr(ready.services.view._view, "refresh", lambda: None)
    ready.ok("POST", "/v1/keys", status=201, json={"name": "me", "key": KEYS[0], "default": True})
    ready.add_vm("web")
    assert shown(ready)["keys"] == ["me"]


def test_a_default_key_that_is_deleted_is_none_any_more(ready: Cloud) -> None:
    add(ready, default=True)
    ready.ok("DELETE", "/v1/keys/me", status=202)
    assert ready.read(Project, "project/default").default_key == ""
    ready.add_vm("web")
    assert shown(ready)["keys"] == []


# Keys of VMs.


def test_keys_of_a_vm_by_name_and_id_in_the_order_that_was_asked_for(ready: Cloud) -> None:
    me, you = add(ready), add(ready, "you", KEYS[1])
    id, _ = ready.add_vm("web", keys=["you", me["id"]])
    assert ready.read(Vm, Vm.at(id)).keys == (you["id"], me["id"])
    assert shown(ready)["keys"] == ["you", "me"]
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "db", "image": "tiny", "keys": ["me", me["id"]]})
    assert error["details"] == {"keys": "one is named twice"}
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "db", "image": "tiny", "keys": ["they"]})
    assert error["details"] == {"keys": "there is no key 'they'"}


def test_keys_of_a_vm_are_changed_all_at_once(ready: Cloud) -> None:
    ids = [add(ready, name, key)["id"] for name, key in zip("abc", KEYS, strict=False)]
    vm, _ = ready.add_vm("web", keys=["a", "b"])
    before = ready.revision(Vm.at(vm))
    assert ready.ok("PATCH", "/v1/vms/web", json={"keys": ["c", "b"]})["vm"]["keys"] == ["c", "b"]
    used = [item.key for item in ready.store.list("use/key/").items]
    assert used == [f"use/key/{id}/{vm}" for id in sorted(ids[1:])]
    after = ready.revision(Vm.at(vm))
    assert after > before
    ready.ok("PATCH", "/v1/vms/web", json={"keys": ["c", "b"]})
    assert ready.revision(Vm.at(vm)) == after
    assert ready.ok("PATCH", "/v1/vms/web", json={"keys": []})["vm"]["keys"] == []
    assert ready.store.list("use/key/").items == ()
    assert list(ready.refused(422, "PATCH", "/v1/vms/web", json={"keys": ["they"]})["details"]) == ["keys"]


def test_a_key_that_vms_name_cannot_be_deleted(ready: Cloud) -> None:
    key = add(ready)
    for number in range(11):
        id, _ = ready.add_vm(f"web-{number}", keys=["me"])
    error = ready.refused(409, "DELETE", "/v1/keys/me")
    *named, others = error["details"]["used_by"]
    assert (len({*named} & {f"web-{number}" for number in range(11)}), others) == (10, "others")
    for number in range(10):
        ready.ok("PATCH", f"/v1/vms/web-{number}", json={"keys": []})
    ready.ok("DELETE", "/v1/vms/web-10", status=202)
    assert ready.refused(409, "DELETE", "/v1/keys/me")["details"] == {"used_by": ["web-10 (being deleted)"]}
    ready.forget(id)
    answer = ready.ok("DELETE", "/v1/keys/me", status=202)
    assert (answer["key"], answer["action"]["state"]) == ({"id": key["id"]}, "success")
    assert ready.ok("GET", f"/v1/actions/{answer['action']['id']}")["action"]["progress"] == "gone"
    assert [item.key for prefix in ("key/", "unique/key") for item in ready.store.list(prefix).items] == []
    assert ready.refused(404, "GET", "/v1/keys/me")["code"] == "not_found"


def test_a_key_that_a_vm_gets_at_this_moment_stays(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at who uses it and the commit."""
    key = add(ready)
    ready.add_vm("web", keys=[])
    real, calls = ready.store.commit, iter((True,))

    def commit(*arguments: Any, **more: Any) -> int:
        if next(calls, False):
            monkeypatch.setattr(ready.store, "commit", real)
            ready.app.test_client().patch("/v1/vms/web", json={"keys": ["me"]})
        return real(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", commit)
    ready.refused(409, "DELETE", "/v1/keys/me")
    assert ready.read(Key, Key.at(key["id"]))


def test_a_key_gets_another_name_and_stays_the_same(ready: Cloud) -> None:
    key = add(ready)
    ready.add_vm("web", keys=["me"])
    assert ready.ok("PATCH", "/v1/keys/me", json={"name": "laptop", "labels": {"a": "b"}})["key"]["name"] == "laptop"
    assert ready.read(Unique, "unique/key/default/laptop").owner == key["id"]
    assert ready.store.get("unique/key/default/me") is None
    ready.catch_up()
    assert shown(ready)["keys"] == ["laptop"]
    ready.refused(422, "PATCH", "/v1/keys/laptop", json={"key": KEYS[1]})
