"""VMs over REST: made, listed, changed, deleted."""

import json
from typing import Any

import pytest

from tests.unit.api.cloud import Cloud
from ucloud.base.errors import Conflict
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Host
from ucloud.model.vm import Status, Vm


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    cloud.add_host()
    cloud.add_image()
    return cloud


def test_create_writes_record_name_and_use_together(ready: Cloud) -> None:
    image = ready.ok("GET", "/v1/images/tiny")["image"]["id"]
    answer = ready.ok("POST", "/v1/vms", json={"name": "web", "image": "tiny", "labels": {"tier": "front"}}, status=202)
    vm = answer["vm"]
    assert vm["phase"] == "pending"
    assert (vm["cpus"], vm["memory_mib"], vm["disk_mib"]) == (1, 512, 64)
    assert (vm["image"], vm["image_id"], vm["pool"], vm["labels"]) == ("tiny", image, "default", {"tier": "front"})
    assert (vm["host"], vm["epoch"], vm["error"]) == ("", 0, "")
    assert answer["action"]["state"] == "running"
    assert answer["action"]["resource"] == vm["id"]
    assert answer["action"]["started"] == vm["created"]
    written = {ready.revision(key) for key in (f"vm/{vm['id']}", "unique/vm/default/web", f"use/image/{image}/{vm['id']}")}
    assert len(written) == 1
    assert ready.read(Unique, "unique/vm/default/web").owner == vm["id"]


def test_single_get_sees_an_answered_write_at_once_by_id_and_by_name(ready: Cloud) -> None:
    id, _ = ready.add_vm()
    assert ready.ok("GET", "/v1/vms/web")["vm"] == ready.ok("GET", f"/v1/vms/{id}")["vm"]


@pytest.mark.parametrize(
    "name", ["", "../x", "a" * 64, "a" * 300, "Web", "wéb", "-a", "a-", "a b", "a\0", "a/b", 7, None, [], True]
)
def test_bad_names_are_refused_with_the_rule(ready: Cloud, name: Any) -> None:
    error = ready.refused(422, "POST", "/v1/vms", json={"name": name, "image": "tiny"})
    assert error["code"] == "invalid"
    assert "1 to 63" in error["details"]["name"]
    assert ready.store.list("vm/").items == ()


def test_no_vm_is_named_as_what_every_network_has(ready: Cloud) -> None:
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "metadata", "image": "tiny"})
    assert "every network has" in error["details"]["name"]
    ready.add_vm()
    ready.refused(422, "PATCH", "/v1/vms/web", json={"name": "metadata"})
    ready.ok("POST", "/v1/networks", status=201, json={"name": "metadata"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("cpus", value) for value in (0, -1, 1025, 10**12, 1.5, "1", True, None)),
        *(("memory_mib", value) for value in (0, -1, 15, 16777217, 10**12)),
        *(("disk_mib", value) for value in (0, -1, 63, 67108865, 10**30)),
        *(("labels", value) for value in ([], {"a": 1}, {"": "x"}, {"a b": ""}, {"a": "x\n"}, {"k" * 64: ""})),
        ("labels", {f"k{n}": "" for n in range(17)}),
        ("labels", {f"key{n}": "v" * 60 for n in range(8)}),
        *(("host", value) for value in ("h9", "../h1", 7, "a b=c", "=", "host-01kam0000000000000000000zz")),
        *(("spread", value) for value in ("Web", "web@", "web@a b", "@rack", 7)),
        *(("networks", value) for value in ("net", ["nope"], ["../x"], [7], None, ["a", "a"], [f"n{n}" for n in range(9)])),
        *(("keys", value) for value in ("me", ["nope"], ["../x"], [7], None, ["a", "a"], [f"k{n}" for n in range(17)])),
        *(("user_data", value) for value in (7, None, [], "x" * 65537, "é" * 32769)),
        *(
            ("user_data_base64", value)
            for value in (7, None, "x", "=", "aGk", "aGk=\n", "a GI", "A" * 87388, "a-_b", "H4sIAAAA")
        ),
        *(("metadata", value) for value in ([], {"A": ""}, {"": ""}, {".a": ""}, {"a/b": ""}, {"a": 1}, {"a\n": ""})),
        *(("metadata", {"a": value}) for value in ("x\n", "\0", "\u001b", "\u0085", "\ufffe", "x" * 1025, None)),
        *(("metadata", value) for value in ({"k" * 64: ""}, {f"k{n}": "" for n in range(33)})),
        *((later, "x") for later in ("ha", "project", "count", "pool")),
    ],
)
def test_bad_fields_are_named(ready: Cloud, field: str, value: Any) -> None:
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "web", "image": "tiny", field: value})
    assert list(error["details"]) == [field]
    assert ready.store.list("vm/").items == ()


def test_a_vm_may_say_where_it_runs(ready: Cloud) -> None:
    """By the host's name or id; a label is kept as it is. One that is too large for the host it names is refused."""
    host = ready.add_host("h2", cpus=4, memory_mib=4096)
    id, _ = ready.add_vm("a", host="h2", spread="web@rack")
    vm = ready.ok("GET", f"/v1/vms/{id}")["vm"]
    assert (vm["wanted_host"], vm["spread"]) == ("h2", "web@rack")
    assert ready.read(Vm, f"vm/{id}").host == host
    id, _ = ready.add_vm("b", host="rack=r1")
    assert ready.ok("GET", f"/v1/vms/{id}")["vm"]["wanted_host"] == "rack=r1"
    ready.add_host("large", cpus=64, memory_mib=65536)
    ready.catch_up()
    ready.ok("POST", "/v1/vms", 202, json={"name": "c", "image": "tiny", "cpus": 32})
    ready.refused(507, "POST", "/v1/vms", json={"name": "d", "image": "tiny", "cpus": 32, "host": "h2"})


def test_all_bad_fields_are_named_at_once(ready: Cloud) -> None:
    error = ready.refused(422, "POST", "/v1/vms", json={"cpus": 0, "memory_mib": 1, "colour": "red"})
    assert set(error["details"]) == {"name", "image", "cpus", "memory_mib", "colour"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "object"),
        (b"null", "object"),
        (b'{"name": "a", "name": "b", "image": "tiny"}', "twice"),
        (b'{"name": NaN, "image": "tiny"}', "NaN"),
        (b'{"name": "a\x00", "image": "tiny"}', "not JSON"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested"),
        (b'{"name": "a", "image": "tiny"} x', "not JSON"),
        (b'{"name": "\\ud800", "image": "tiny"}', "not JSON"),
        (b'{"name": "a", "image": "tiny", "\\udfff": 1}', "not JSON"),
        (b'{"name": "a", "image": "tiny", "labels": {"a": "1", "a": "2"}}', "twice"),
        (b'{"name": "\\u0000", "image": "tiny"}', "1 to 63"),
        (b'{"cpus": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"", "name"),
    ],
)
def test_bodies_that_make_no_sense(ready: Cloud, body: bytes, says: str) -> None:
    error = ready.refused(422, "POST", "/v1/vms", data=body, content_type="application/json")
    assert says in error["message"]


def test_other_content_types_and_large_bodies(ready: Cloud) -> None:
    error = ready.refused(415, "POST", "/v1/vms", data=b'{"name": "a", "image": "tiny"}', content_type="text/plain")
    assert error["code"] == "unsupported_media_type"
    large = json.dumps({"name": "a", "image": "x" * 2**20})
    error = ready.refused(413, "POST", "/v1/vms", data=large, content_type="application/json")
    assert error["code"] == "request_entity_too_large"


def test_image_must_exist_and_be_ready(ready: Cloud) -> None:
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "a", "image": "nope"})
    assert error["details"] == {"image": "there is no image 'nope'"}
    ready.ok("POST", "/v1/images", json={"name": "half", "bytes": 1, "sha256": "0" * 64}, status=201)
    error = ready.refused(409, "POST", "/v1/vms", json={"name": "a", "image": "half"})
    assert error["details"] == {"image": "uploading"}


def test_a_name_is_given_once(ready: Cloud) -> None:
    ready.add_vm("web")
    assert ready.refused(409, "POST", "/v1/vms", json={"name": "web", "image": "tiny"})["details"] == {"name": "taken"}


def test_more_than_any_host_has_is_refused_at_once(ready: Cloud) -> None:
    assert ready.refused(507, "POST", "/v1/vms", json={"name": "a", "image": "tiny", "cpus": 5})["code"] == "no_capacity"
    ready.refused(507, "POST", "/v1/vms", json={"name": "a", "image": "tiny", "memory_mib": 4097})
    ready.add_vm("b", cpus=4, memory_mib=4096)
    ready.add_vm("c", cpus=4, memory_mib=4096)  # not free now: it waits


def test_agreed_capacity_counts_and_an_unknown_host_refuses_nothing(ready: Cloud) -> None:
    id = next(item.key.removeprefix("host/") for item in ready.store.list("host/").items)
    ready.put(Host(id=id, name="h1", cpus=2, memory_mib=1024, created=""))
    ready.catch_up()
    ready.refused(507, "POST", "/v1/vms", json={"name": "a", "image": "tiny", "cpus": 3})
    ready.put(Host(id="host-01kam0000000000000000000zz", name="new", created=""))
    ready.catch_up()
    ready.add_vm("a", cpus=3)


def test_without_any_host_it_waits(cloud: Cloud) -> None:
    cloud.add_image()
    cloud.add_vm(cpus=1024)
    vm = cloud.ok("GET", "/v1/vms/web")["vm"]
    assert vm["phase"] == "pending"
    assert vm["waiting_for"]["who"] == "scheduler"


def test_idempotency_key(ready: Cloud) -> None:
    send = {"json": {"name": "web", "image": "tiny"}, "headers": {"Idempotency-Key": "k-1"}}
    first = ready.ok("POST", "/v1/vms", status=202, **send)
    again = ready.ok("POST", "/v1/vms", status=202, **send)
    assert (first["vm"]["id"], first["action"]["id"]) == (again["vm"]["id"], again["action"]["id"])
    assert len(ready.store.list("vm/").items) == 1
    other = {**send, "json": {"name": "other", "image": "tiny"}}
    ready.refused(409, "POST", "/v1/vms", **other)
    ready.forget(first["vm"]["id"])
    gone = ready.ok("POST", "/v1/vms", status=202, **send)
    assert gone["action"]["id"] == first["action"]["id"]
    assert gone["action"]["state"] == "error"
    for bad in ("", "x" * 129, "a/b", "a b"):
        ready.refused(422, "POST", "/v1/vms", json={"name": "b", "image": "tiny"}, headers={"Idempotency-Key": bad})


def test_list_pages_and_filters(ready: Cloud) -> None:
    names = [f"vm{n}" for n in range(5)]
    for name in names:
        ready.add_vm(name, labels={"odd": str(int(name[2:]) % 2)})
    ready.catch_up()
    seen: list[str] = []
    cursor = ""
    while True:
        page = ready.ok("GET", f"/v1/vms?limit=2&cursor={cursor}")
        assert len(page["vms"]) <= 2
        seen += [vm["name"] for vm in page["vms"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert sorted(seen) == names
    assert [vm["name"] for vm in ready.ok("GET", "/v1/vms?name=vm3")["vms"]] == ["vm3"]
    assert {vm["name"] for vm in ready.ok("GET", "/v1/vms?label=odd=1")["vms"]} == {"vm1", "vm3"}
    assert len(ready.ok("GET", "/v1/vms?label=odd")["vms"]) == 5
    for bad in ("limit=0", "limit=x", "limit=1001", "limit=-1", "colour=red", "limit=1&limit=2", "label=%00"):
        ready.refused(422, "GET", f"/v1/vms?{bad}")


@pytest.mark.parametrize("reference", ["nope", "vm-01kam000000000000000000000", "..%2fx", "%00", "a" * 300, "tiny"])
def test_unknown_vms(ready: Cloud, reference: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/actions/start"), ("GET", "/log")):
        assert ready.http.open(f"/v1/vms/{reference}{path}", method=method).status_code == 404


def test_delete_is_marked_once_and_ends_when_the_record_is_gone(ready: Cloud) -> None:
    id, create = ready.add_vm()
    first = ready.ok("DELETE", "/v1/vms/web", status=202)
    again = ready.ok("DELETE", f"/v1/vms/{id}", status=202)
    assert first["vm"]["phase"] == "deleting"
    assert first["action"]["id"] == again["action"]["id"]
    assert first["action"]["state"] == "running"
    assert ready.ok("GET", f"/v1/actions/{create}")["action"]["error"] == "the VM was deleted meanwhile"
    ready.refused(409, "POST", "/v1/vms/web/actions/start")
    ready.forget(id)
    assert ready.ok("GET", f"/v1/actions/{first['action']['id']}")["action"]["state"] == "success"
    assert ready.ok("GET", f"/v1/actions/{create}")["action"]["state"] == "error"
    ready.refused(404, "GET", "/v1/vms/web")


def test_power(ready: Cloud) -> None:
    host = ready.add_host()
    id, _ = ready.add_vm()
    ready.run(id, host)

    def act(verb: str, **body: Any) -> Vm:
        ready.ok("POST", f"/v1/vms/web/actions/{verb}", json=body, status=202)
        record: Vm = ready.read(Vm, Vm.at(id))
        return record

    vm = act("start")
    assert (vm.power, vm.boots) == ("on", 1)  # it runs: nothing to do
    vm = act("reboot")
    assert (vm.power, vm.boots, vm.hard) == ("on", 2, False)
    vm = act("reset")
    assert (vm.power, vm.boots, vm.hard) == ("on", 3, True)
    vm = act("stop")
    assert (vm.power, vm.boots, vm.hard) == ("off", 3, False)
    vm = act("stop", force=True)
    assert (vm.power, vm.boots, vm.hard) == ("off", 3, True)
    for verb in ("reboot", "reset"):
        assert "start it" in ready.refused(409, "POST", f"/v1/vms/web/actions/{verb}")["message"]
    vm = act("start")
    assert (vm.power, vm.boots, vm.hard) == ("on", 4, False)


def test_start_after_the_guest_powered_itself_off(ready: Cloud) -> None:
    host = ready.add_host()
    id, _ = ready.add_vm()
    ready.run(id, host)
    ready.say(id, host, "off")
    vm = ready.ok("GET", "/v1/vms/web")["vm"]
    assert (vm["phase"], vm["reason"]) == ("stopped", "the guest powered itself off")
    ready.refused(409, "POST", "/v1/vms/web/actions/reboot")
    answer = ready.ok("POST", "/v1/vms/web/actions/start", status=202)
    assert answer["vm"]["boots"] == 2
    assert answer["vm"]["phase"] == "starting"
    again = ready.ok("POST", "/v1/vms/web/actions/start", status=202)
    assert again["action"]["id"] == answer["action"]["id"]


@pytest.mark.parametrize(
    ("verb", "body"), [("stop", {"force": 1}), ("stop", {"x": 1}), ("start", {"force": True}), ("reset", [])]
)
def test_actions_that_make_no_sense(ready: Cloud, verb: str, body: Any) -> None:
    ready.add_vm()
    ready.refused(422, "POST", f"/v1/vms/web/actions/{verb}", json=body)
    ready.refused(404, "POST", "/v1/vms/web/actions/explode", json={})


def test_fields_of_a_newer_version_are_kept(ready: Cloud) -> None:
    id, _ = ready.add_vm()
    item = ready.store.get(Vm.at(id))
    assert item is not None
    ready.store.commit({item.key: json.dumps({**json.loads(item.value), "colour": "red"}).encode()})
    ready.ok("POST", "/v1/vms/web/actions/stop", status=202)
    kept = ready.store.get(Vm.at(id))
    assert kept is not None
    assert json.loads(kept.value)["colour"] == "red"
    assert json.loads(kept.value)["power"] == "off"


def test_somebody_faster_is_no_error(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two commits are lost to others."""
    ready.add_vm()
    commit, lost = ready.store.commit, []

    def race(*arguments: Any, **more: Any) -> int:
        if len(lost) < 2:
            lost.append(1)
            raise Conflict("somebody was faster")
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    ready.ok("POST", "/v1/vms/web/actions/stop", status=202)


def test_status_of_an_older_epoch_says_nothing(ready: Cloud) -> None:
    host = ready.add_host()
    id, _ = ready.add_vm()
    ready.place(id, host, epoch=2)
    ready.say(id, host, "running", epoch=1)
    vm = ready.ok("GET", "/v1/vms/web")["vm"]
    assert (vm["phase"], vm["host"], vm["host_id"], vm["epoch"]) == ("placing", "h1", host, 2)
    assert ready.read(Status, Status.at(host, "vm", id)).phase == "running"
