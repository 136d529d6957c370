"""Images over REST: announced, uploaded, refused, deleted."""

import hashlib
from typing import Any

import pytest

from tests.unit.api.cloud import DATA, NOW, SHA256, Cloud
from ucloud.base.errors import Temporary
from ucloud.model.image import Image, ImageState, Pool

ANNOUNCED = {"name": "tiny", "bytes": len(DATA), "sha256": SHA256}


@pytest.fixture
def pooled(cloud: Cloud) -> Cloud:
    cloud.put(Pool(name="default", path="/pool", created=""))
    cloud.catch_up()
    return cloud


def test_from_announced_to_ready(pooled: Cloud) -> None:
    answer = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    id, action = answer["image"]["id"], answer["action"]["id"]
    assert answer["image"]["phase"] == "uploading"
    assert pooled.read(Image, Image.at(id)).uploaded_at == ""
    assert pooled.ok("PUT", f"/v1/images/{id}/data", data=DATA, status=202)["image"]["phase"] == "examining"
    assert pooled.pool.uploads == {id: DATA}
    assert pooled.ok("GET", f"/v1/actions/{action}")["action"]["progress"] == "waiting for its examination"
    pooled.examine(id, size_mib=64)
    image = pooled.ok("GET", "/v1/images/tiny")["image"]
    assert (image["phase"], image["virtual_size_mib"], image["pool"]) == ("ready", 64, "default")
    assert pooled.ok("GET", f"/v1/actions/{action}")["action"]["state"] == "success"
    assert pooled.ok("GET", "/v1/images")["images"] == [image]
    assert pooled.ok("GET", "/v1/images?name=other")["images"] == []


def test_a_failed_image_says_why_and_cannot_be_cloned(pooled: Cloud) -> None:
    id = pooled.add_image()
    pooled.examine(id, error="it has a backing file")
    assert pooled.ok("GET", "/v1/images/tiny")["image"]["error"] == "it has a backing file"
    error = pooled.refused(409, "POST", "/v1/vms", json={"name": "a", "image": "tiny"})
    assert "backing file" in error["message"]
    revision = pooled.revision(Image.at(id))
    action = pooled.ok("GET", f"/v1/actions/{id}.{revision}.upload")["action"]
    assert (action["state"], action["error"]) == ("error", "it has a backing file")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("bytes", value) for value in (0, -1, 2**41, "8", 1.5)),
        *(("sha256", value) for value in ("", "x" * 64, "0" * 63, SHA256.upper(), 5)),
        *(("name", value) for value in ("", "../x", "x" * 300)),
        *(("pool", value) for value in ("", "nope", "../default", 3)),
        ("format", "qcow2"),
    ],
)
def test_bad_announcements(pooled: Cloud, field: str, value: Any) -> None:
    error = pooled.refused(422, "POST", "/v1/images", json={**ANNOUNCED, field: value})
    assert list(error["details"]) == [field]
    assert pooled.store.list("image/").items == ()


def test_the_pool_must_be_named_unless_there_is_one(cloud: Cloud) -> None:
    assert "none yet" in cloud.refused(422, "POST", "/v1/images", json=ANNOUNCED)["message"]
    cloud.put(Pool(name="a", path="/a", created=""), Pool(name="b", path="/b", created=""))
    assert "several" in cloud.refused(422, "POST", "/v1/images", json=ANNOUNCED)["message"]
    assert cloud.ok("POST", "/v1/images", json={**ANNOUNCED, "pool": "b"}, status=201)["image"]["pool"] == "b"


def test_bad_uploads_leave_nothing_and_may_be_repeated(pooled: Cloud) -> None:
    id = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)["image"]["id"]
    path = f"/v1/images/{id}/data"
    assert pooled.refused(422, "PUT", path, data=DATA[:-1])["details"] == {"bytes": "differs"}
    assert pooled.refused(422, "PUT", path, data=DATA[::-1])["details"] == {"sha256": "differs"}
    assert pooled.read(Image, Image.at(id)).uploaded_at == ""
    pooled.ok("PUT", path, data=DATA, status=202)
    pooled.refused(409, "PUT", path, data=DATA)


def test_an_upload_that_was_given_up_is_too_late(pooled: Cloud) -> None:
    answer = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    id = answer["image"]["id"]
    pooled.examine(id, error="no upload within a day")
    assert pooled.ok("GET", "/v1/images/tiny")["image"]["phase"] == "failed"
    assert pooled.ok("GET", f"/v1/actions/{answer['action']['id']}")["action"]["state"] == "error"
    assert "within a day" in pooled.refused(409, "PUT", f"/v1/images/{id}/data", data=DATA)["message"]


def test_uploads_may_be_larger_than_other_bodies(pooled: Cloud) -> None:
    data = bytes(3 * 2**20)
    announced = {"name": "big", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    id = pooled.ok("POST", "/v1/images", json=announced, status=201)["image"]["id"]
    pooled.ok("PUT", f"/v1/images/{id}/data", data=data, status=202)
    assert pooled.pool.uploads[id] == data


def test_an_image_deleted_while_it_is_uploaded_leaves_nothing(pooled: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    id = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)["image"]["id"]
    receive = pooled.pool.receive

    def slow(*arguments: Any) -> None:
        receive(*arguments)
        pooled.app.test_client().delete(f"/v1/images/{id}")

    monkeypatch.setattr(pooled.pool, "receive", slow)
    pooled.refused(404, "PUT", f"/v1/images/{id}/data", data=DATA)
    assert pooled.pool.uploads == {}


def test_delete_is_refused_while_vms_use_it(pooled: Cloud) -> None:
    id = pooled.add_image()
    vm, _ = pooled.add_vm("web")
    error = pooled.refused(409, "DELETE", "/v1/images/tiny")
    assert error["details"] == {"used_by": ["web"]}
    assert "web" in error["message"]
    pooled.forget(vm)
    first = pooled.ok("DELETE", "/v1/images/tiny", status=202)
    again = pooled.ok("DELETE", "/v1/images/tiny", status=202)
    assert first["image"]["phase"] == "deleting"
    assert first["action"]["id"] == again["action"]["id"]
    assert first["action"]["state"] == "running"
    pooled.refused(409, "POST", "/v1/vms", json={"name": "a", "image": "tiny"})
    pooled.forget_image(id)
    assert pooled.ok("GET", f"/v1/actions/{first['action']['id']}")["action"]["state"] == "success"


def test_a_vm_and_a_delete_at_once_never_both_succeed(pooled: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM is committed after the delete has looked whether anybody uses the image."""
    pooled.add_image()
    commit = pooled.store.commit
    raced: list[str] = []

    def race(*arguments: Any, **more: Any) -> int:
        if not raced:
            raced.append("once")
            pooled.add_vm("web")
        return commit(*arguments, **more)

    monkeypatch.setattr(pooled.store, "commit", race)
    assert pooled.refused(409, "DELETE", "/v1/images/tiny")["details"] == {"used_by": ["web"]}


@pytest.mark.parametrize("change", [{"bytes": 9}, {"sha256": "0" * 64}, {"pool": "other"}])
def test_a_name_is_not_given_to_other_content(pooled: Cloud, change: dict[str, Any]) -> None:
    pooled.put(Pool(name="other", path="/b", created=""))
    pooled.ok("POST", "/v1/images", json={**ANNOUNCED, "pool": "default"}, status=201)
    error = pooled.refused(409, "POST", "/v1/images", json={**ANNOUNCED, "pool": "default", **change})
    assert error["details"] == {"name": "taken"}


def test_what_is_there_already_is_answered_and_made_once(pooled: Cloud) -> None:
    first = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    again = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    assert again == first
    id = first["image"]["id"]
    pooled.ok("PUT", f"/v1/images/{id}/data", data=DATA, status=202)
    pooled.examine(id)
    done = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    assert (done["image"]["id"], done["image"]["phase"], done["action"]["state"]) == (id, "ready", "success")
    pooled.examine(id, error="it has a backing file")
    assert "backing file; delete it first" in pooled.refused(409, "POST", "/v1/images", json=ANNOUNCED)["message"]
    pooled.ok("DELETE", f"/v1/images/{id}", status=202)
    pooled.refused(409, "POST", "/v1/images", json=ANNOUNCED)


def test_an_upload_that_broke_off_is_gone_on_with(pooled: Cloud) -> None:
    id = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)["image"]["id"]
    path = f"/v1/images/{id}/data"
    pooled.pool.arrived[id] = DATA[:3]
    pooled.catch_up()
    for images in ([pooled.ok("GET", f"/v1/images/{id}")["image"]], pooled.ok("GET", "/v1/images")["images"]):
        assert [(image["phase"], image["received_bytes"], image["idle_s"]) for image in images] == [("uploading", 3, 5)]
    assert list(pooled.refused(422, "PUT", f"{path}?start=3", data=DATA)["details"]) == ["bytes"]
    assert list(pooled.refused(422, "PUT", f"{path}?start=-1", data=DATA)["details"]) == ["start"]
    pooled.ok("PUT", f"{path}?start=3", data=DATA[3:], status=202)
    assert pooled.pool.uploads == {id: DATA}
    assert pooled.ok("GET", f"/v1/images/{id}")["image"]["received_bytes"] == len(DATA)


def test_a_pool_without_room_refuses_before_anything_is_sent(pooled: Cloud) -> None:
    error = pooled.refused(507, "POST", "/v1/images", json={**ANNOUNCED, "bytes": 2 << 30})
    assert error["message"] == "pool default is full: 2048 MiB are needed, 1024 MiB are free"
    assert error["details"] == {"needed_bytes": 2 << 30, "free_bytes": 1 << 30}


def test_images_are_shown_while_their_pool_is_away(pooled: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    id = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)["image"]["id"]

    def fail(image: str) -> None:
        raise Temporary("the pool is not mounted")

    monkeypatch.setattr(pooled.pool, "progress", fail)
    image = pooled.ok("GET", f"/v1/images/{id}")["image"]
    assert (image["phase"], image["received_bytes"], image["idle_s"]) == ("uploading", 0, None)


def test_an_image_that_cannot_be_made_ready_yet_says_why(pooled: Cloud) -> None:
    answer = pooled.ok("POST", "/v1/images", json=ANNOUNCED, status=201)
    id = answer["image"]["id"]
    pooled.ok("PUT", f"/v1/images/{id}/data", data=DATA, status=202)
    pooled.put(ImageState(image=id, phase="examining", error="pool default is full", since=NOW))
    image = pooled.ok("GET", f"/v1/images/{id}")["image"]
    assert (image["phase"], image["error"]) == ("examining", "pool default is full")
    action = pooled.ok("GET", f"/v1/actions/{answer['action']['id']}")["action"]
    assert (action["state"], action["error"]) == ("running", "pool default is full")
    assert "pool default is full" in pooled.refused(409, "POST", "/v1/vms", json={"name": "a", "image": "tiny"})["message"]


def test_a_clone_keeps_its_source_until_it_is_made(pooled: Cloud) -> None:
    source = pooled.add_image()
    answer = pooled.ok("POST", "/v1/images", json={"name": "copy", "source": "tiny"}, status=201)
    image, action = answer["image"], answer["action"]
    assert (image["phase"], image["source"], image["bytes"], image["sha256"]) == ("examining", source, len(DATA), SHA256)
    assert (action["verb"], action["state"], action["progress"]) == ("clone", "running", "waiting for its copy")
    assert pooled.ok("POST", "/v1/images", json={"name": "copy", "source": source}, status=201) == answer
    assert pooled.refused(409, "DELETE", "/v1/images/tiny")["details"] == {"used_by": ["copy"]}
    pooled.refused(409, "PUT", "/v1/images/copy/data", data=DATA)
    pooled.examine(image["id"])
    assert pooled.ok("GET", f"/v1/actions/{action['id']}")["action"]["state"] == "success"
    pooled.store.commit({}, [f"use/image/{source}/{image['id']}"])
    pooled.ok("DELETE", "/v1/images/tiny", status=202)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "bytes"),
        ({"source": "none"}, 422, "source"),
        ({"source": "tiny", "pool": "other"}, 422, "pool"),
        ({"source": "tiny", "bytes": 9}, 422, "bytes"),
        ({"source": "new"}, 409, "source"),
        ({"source": "tiny", "name": "tiny"}, 409, "name"),
    ],
)
def test_bad_clones(pooled: Cloud, body: dict[str, Any], status: int, field: str) -> None:
    pooled.add_image()
    pooled.ok("POST", "/v1/images", json={**ANNOUNCED, "name": "new"}, status=201)
    before = len(pooled.store.list("image/").items)
    assert field in pooled.refused(status, "POST", "/v1/images", json={"name": "copy", **body})["details"]
    assert len(pooled.store.list("image/").items) == before


def test_idempotency(pooled: Cloud) -> None:
    send = {"json": ANNOUNCED, "headers": {"Idempotency-Key": "k"}}
    first, again = (pooled.ok("POST", "/v1/images", status=201, **send) for _ in range(2))
    assert first == again
