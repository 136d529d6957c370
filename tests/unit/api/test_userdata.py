"""User data and metadata of VMs over REST: kept to the byte, shared by those that have the same, changed and removed."""

import base64
import gzip
import hashlib
import zlib
from typing import Any

import pytest

from tests.unit.api.cloud import Cloud
from tests.unit.world import NOW_S
from ucloud.daemon.control import LOOPS
from ucloud.model.key import Blob
from ucloud.model.vm import Vm
from ucloud.scheduler.decide import decide
from ucloud.store.view import View

TEXT = "#!/bin/sh\necho naïve\n"
BINARY = bytes(range(256)) * 3


def encoded(data: bytes) -> dict[str, str]:
    return {"user_data_base64": base64.b64encode(data).decode()}


def read(cloud: Cloud, vm: str = "web") -> bytes:
    answer = cloud.http.get(f"/v1/vms/{vm}/user-data")
    assert (answer.status_code, answer.mimetype) == (200, "application/octet-stream")
    return answer.data


def refused(cloud: Cloud, **wishes: Any) -> str:
    error = cloud.refused(422, "POST", "/v1/vms", json={"name": "web", "image": "tiny", **wishes})
    assert cloud.store.list("vm/").items == ()
    return str(error["message"])


def uses(cloud: Cloud) -> set[str]:
    return {item.key for item in cloud.store.list("use/blob/").items}


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    cloud.add_host()
    cloud.add_image()
    return cloud


@pytest.mark.parametrize(
    "wishes",
    [
        {"user_data": TEXT},
        encoded(BINARY),
        encoded(gzip.compress(TEXT.encode())),
        encoded(gzip.compress(b"a") + gzip.compress(b"b") + b"\0" * 9),  # as cloud-init takes it
        encoded(b"\x1f\x8a"),
        {"user_data": "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n"},
        {"user_data": "\0\ufeff \n"},
        {"user_data": "x" * 65536},
        encoded(b"\0" * 65536),
    ],
)
def test_it_is_kept_to_the_byte(ready: Cloud, wishes: dict[str, str]) -> None:
    id, _ = ready.add_vm("web", **wishes)
    given = base64.b64decode(wishes["user_data_base64"]) if "user_data_base64" in wishes else wishes["user_data"].encode()
    assert read(ready) == given
    sha256 = hashlib.sha256(given).hexdigest()
    assert ready.ok("GET", "/v1/vms/web")["vm"]["user_data"] == {"sha256": sha256, "bytes": len(given)}
    assert uses(ready) == {f"use/blob/{sha256}/{id}"}
    assert len(set(map(ready.revision, (Vm.at(id), Blob.at(sha256), *uses(ready))))) == 1


@pytest.mark.parametrize("wishes", [{}, {"user_data": ""}, {"user_data_base64": ""}])
def test_there_may_be_none(ready: Cloud, wishes: dict[str, str]) -> None:
    ready.add_vm("web", **wishes)
    assert ready.ok("GET", "/v1/vms/web")["vm"]["user_data"] is None
    assert ready.refused(404, "GET", "/v1/vms/web/user-data")["message"] == "the VM web has no user data"
    assert ready.store.list("blob/").items == ready.store.list("use/blob/").items == ()


def test_64_kib_and_not_a_byte_more(ready: Cloud) -> None:
    assert "65,536 bytes" in refused(ready, user_data="x" * 65537)
    assert "65,536 bytes" in refused(ready, user_data="x" * 65535 + "é")
    assert "65,537 bytes; at most 65,536" in refused(ready, **encoded(b"\0" * 65537))


def test_it_comes_in_one_way_only(ready: Cloud) -> None:
    assert "both" in refused(ready, user_data="a", **encoded(b"a"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        gzip.compress(b"a")[:-1],
        gzip.compress(b"a") + b"x",
        gzip.compress(b"a" * 1000)[:-8] + b"\0" * 8,
        b"\x1f\x8b\x08" + b"\xff" * 100,
    ],
    ids=["only its sign", "cut off", "with more behind it", "of another length", "of no kind"],  # gzip writes what time it is
)
def test_gzip_that_no_guest_could_unpack_is_refused(ready: Cloud, data: bytes) -> None:
    assert "cannot be unpacked" in refused(ready, **encoded(data))


def test_gzip_that_becomes_very_large_is_refused_without_unpacking_all_of_it(ready: Cloud) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(48)) + packer.flush()
    assert len(bomb) < 65536
    assert "16,777,216 bytes" in refused(ready, **encoded(bomb))


def test_it_is_changed_and_removed(ready: Cloud) -> None:
    id, _ = ready.add_vm("web", user_data="a")
    assert ready.ok("PATCH", "/v1/vms/web", json={"user_data": "b"})["vm"]["user_data"]["bytes"] == 1
    assert read(ready) == b"b"
    assert uses(ready) == {f"use/blob/{hashlib.sha256(b'b').hexdigest()}/{id}"}
    revision = ready.revision(Vm.at(id))
    ready.ok("PATCH", "/v1/vms/web", json=encoded(b"b"))
    assert ready.revision(Vm.at(id)) == revision
    for nothing in ({"user_data": None}, {"user_data": ""}, {"user_data_base64": ""}):
        ready.ok("PATCH", "/v1/vms/web", json={"user_data": "b"})
        assert ready.ok("PATCH", "/v1/vms/web", json=nothing)["vm"]["user_data"] is None
        assert uses(ready) == set()
    ready.refused(422, "PATCH", "/v1/vms/web", json={"user_data": "x" * 65537})
    ready.refused(422, "PATCH", "/v1/vms/web", json={"user_data": None, **encoded(b"a")})


def test_what_several_have_is_there_once_and_until_the_last_of_them_goes(ready: Cloud) -> None:
    """Its record is the scheduler's to delete."""
    ids = [ready.add_vm(f"web-{number}", user_data=TEXT)[0] for number in range(3)]
    assert len(ready.store.list("blob/").items) == 1
    view = View(ready.store, LOOPS["scheduler"][1], ready.services.clock, lambda: None)
    for id in ids:
        view.refresh()
        assert [decision.verb for decision in decide(view, NOW_S) if decision.verb == "clear"] == []
        ready.ok("PATCH", f"/v1/vms/{id}", json={"user_data": None})
    view.refresh()
    (clear,) = [decision for decision in decide(view, NOW_S) if decision.verb == "clear"]
    ready.store.commit({}, clear.deletes, clear.requires)
    assert ready.store.list("blob/").items == ()


def test_what_is_about_to_be_deleted_is_there_for_whoever_wants_it_now(ready: Cloud) -> None:
    """The scheduler's decision to delete it does not stand any more."""
    id, _ = ready.add_vm("web", user_data=TEXT)
    ready.ok("PATCH", f"/v1/vms/{id}", json={"user_data": ""})
    view = View(ready.store, LOOPS["scheduler"][1], ready.services.clock, lambda: None)
    view.refresh()
    (clear,) = [decision for decision in decide(view, NOW_S) if decision.verb == "clear"]
    ready.store.commit({}, clear.deletes)
    ready.add_vm("db", user_data=TEXT)
    assert read(ready, "db") == TEXT.encode()


def test_operators_see_its_size_and_not_its_content(ready: Cloud) -> None:
    ready.add_vm("web", user_data="password: open sesame")
    text = ready.http.get("/v1/internal/").text
    assert "«21 bytes»" in text
    for form in (b"open sesame", base64.b64encode(b"password: open sesame")):
        assert form.decode() not in text


def test_metadata_is_all_replaced(ready: Cloud) -> None:
    given = {"role": "database", "a.b_c-1": 'Zoë, \\ "quoted"', "empty": "", "long": "ü" * 1024}
    ready.add_vm("web", metadata=given)
    assert ready.ok("GET", "/v1/vms/web")["vm"]["metadata"] == given
    assert ready.ok("PATCH", "/v1/vms/web", json={"metadata": {"role": "web"}})["vm"]["metadata"] == {"role": "web"}
    assert ready.ok("PATCH", "/v1/vms/web", json={"name": "db"})["vm"]["metadata"] == {"role": "web"}
    assert ready.ok("PATCH", "/v1/vms/db", json={"metadata": {}})["vm"]["metadata"] == {}


def test_the_largest_vm_fits_into_one_transaction(ready: Cloud) -> None:
    metadata = {f"key-{number}": "🦆" * 1024 for number in range(32)}
    id, _ = ready.add_vm("web", metadata=metadata, **encoded(b"\xff" * 65536))
    assert ready.read(Vm, Vm.at(id)).metadata == metadata


def test_as_whom_to_log_in_is_said_by_the_image(ready: Cloud) -> None:
    ready.add_vm("web")
    assert ready.ok("GET", "/v1/vms/web")["vm"]["user"] == "root"
    assert ready.ok("PATCH", "/v1/images/tiny", json={"user": "debian"})["image"]["user"] == "debian"
    ready.catch_up()
    assert ready.ok("GET", "/v1/vms/web")["vm"]["user"] == "debian"
    clone = {"name": "copy", "source": "tiny"}
    assert ready.ok("POST", "/v1/images", 201, json=clone)["image"]["user"] == "debian"
    assert ready.ok("POST", "/v1/images", 201, json={**clone, "name": "other", "user": "me"})["image"]["user"] == "me"
    announced = {"name": "new", "bytes": 1, "sha256": "0" * 64}
    assert ready.ok("POST", "/v1/images", 201, json={**announced, "user": "_x-1"})["image"]["user"] == "_x-1"
    for bad in ("", "Root", "a b", "1a", "-a", "a" * 33, "a\n", 7):
        assert list(ready.refused(422, "PATCH", "/v1/images/tiny", json={"user": bad})["details"]) == ["user"]
