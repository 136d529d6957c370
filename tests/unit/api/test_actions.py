"""Actions: when they end, and how one waits for it."""

import threading
from typing import Any

import pytest

from tests.unit.api.cloud import Cloud
from ucloud.api import services as api_services
from ucloud.model.vm import Vm


def action(cloud: Cloud, id: str, wait: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = cloud.ok("GET", f"/v1/actions/{id}{wait}")["action"]
    return answer


def test_create_is_done_when_the_host_acted_on_that_revision(cloud: Cloud) -> None:
    host = cloud.add_host()
    cloud.add_image()
    id, create = cloud.add_vm()
    assert action(cloud, create)["progress"].startswith("pending")
    cloud.place(id, host)
    assert action(cloud, create)["progress"] == "placing: waiting for h1 to take it over"
    cloud.say(id, host, "starting", error="no space left")
    seen = action(cloud, create)
    assert (seen["state"], seen["error"]) == ("running", "no space left")
    cloud.say(id, host, "running", revisions={"vm": 1})
    assert action(cloud, create)["state"] == "running"
    cloud.say(id, host, "running")
    seen = action(cloud, create)
    assert (seen["state"], seen["error"], seen["verb"], seen["resource"]) == ("success", None, "create", id)
    assert seen["finished"]


def test_stop_and_start_are_done_when_the_phase_fits(cloud: Cloud) -> None:
    host = cloud.add_host()
    cloud.add_image()
    id, create = cloud.add_vm()
    cloud.run(id, host)
    stop = cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)["action"]["id"]
    cloud.say(id, host, "stopping")
    assert action(cloud, stop)["state"] == "running"
    cloud.say(id, host, "stopped")
    assert action(cloud, stop)["state"] == "success"
    assert action(cloud, create)["state"] == "success"  # superseded by the stop
    start = cloud.ok("POST", "/v1/vms/web/actions/start", status=202)["action"]["id"]
    cloud.say(id, host, "stopped", boots=1)
    assert action(cloud, start)["state"] == "running"
    cloud.say(id, host, "off")
    assert action(cloud, start)["state"] == "success"  # it ran, and powered itself off


def test_stop_of_a_vm_without_a_host_is_done_at_once(cloud: Cloud) -> None:
    cloud.add_image()
    cloud.add_vm()
    assert cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)["action"]["state"] == "success"


@pytest.mark.parametrize(
    "id",
    [
        "x",
        "vm-01kam000000000000000000000.1",
        "vm-01kam000000000000000000000.0.delete",
        "vm-01kam000000000000000000000.1.upload",
        "vm-01kam000000000000000000000.999999.delete",
        "host-01kam000000000000000000000.1.delete",
        "vm-01kam000000000000000000000.1.delete.x",
        "vm-01kam000000000000000000000.¹.delete",
        f"vm-01kam000000000000000000000.{'9' * 30}.delete",
    ],
)
def test_ids_that_cannot_be(cloud: Cloud, id: str) -> None:
    assert cloud.refused(404, "GET", f"/v1/actions/{id}")["message"] == "there is no such action"


def test_a_revision_that_the_vm_has_not_reached_cannot_be(cloud: Cloud) -> None:
    cloud.add_image()
    id, _ = cloud.add_vm()
    cloud.put(cloud.read(Vm, Vm.at(id)).__class__(**{**as_dict(cloud, id), "id": "vm-01kam000000000000000000001"}))
    cloud.refused(404, "GET", f"/v1/actions/{id}.{cloud.revision(Vm.at(id)) + 1}.stop")


def as_dict(cloud: Cloud, id: str) -> dict[str, Any]:
    record = cloud.read(Vm, Vm.at(id))
    return {name: getattr(record, name) for name in record.__struct_fields__}


@pytest.mark.parametrize("wait", ["-1", "x", "61", "1e9", "nan", "", "99999999"])
def test_waits_that_make_no_sense(cloud: Cloud, wait: str) -> None:
    cloud.add_image()
    _, create = cloud.add_vm()
    cloud.refused(422, "GET", f"/v1/actions/{create}?wait={wait}")


def test_a_wait_ends_when_the_action_does(cloud: Cloud) -> None:
    host = cloud.add_host()
    cloud.add_image()
    id, create = cloud.add_vm()
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(action(cloud, create, "?wait=60")))
    waiting.start()
    cloud.place(id, host)
    cloud.say(id, host, "starting")
    cloud.say(id, host, "running")
    waiting.join(timeout=50)
    assert answers[0]["state"] == "success"


def test_a_wait_ends_when_time_is_up_or_the_server_stops(cloud: Cloud) -> None:
    cloud.add_image()
    _, create = cloud.add_vm()
    assert action(cloud, create, "?wait=0.01")["state"] == "running"
    cloud.services.view.end_waits()
    assert action(cloud, create, "?wait=60")["state"] == "running"


def test_waits_are_limited(cloud: Cloud) -> None:
    cloud.add_image()
    _, create = cloud.add_vm()
    places = [cloud.services.waits.take() for _ in range(api_services.MAX_WAITS)]
    for place in places:
        place.__enter__()
    response = cloud.http.get(f"/v1/actions/{create}?wait=1")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert action(cloud, create)["state"] == "running"  # not a wait
    for place in places:
        place.__exit__(None, None, None)
    assert action(cloud, create, "?wait=0.01")["state"] == "running"


def test_waiting_for_a_delete(cloud: Cloud) -> None:
    cloud.add_image()
    id, _ = cloud.add_vm()
    delete = cloud.ok("DELETE", "/v1/vms/web", status=202)["action"]["id"]
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(action(cloud, delete, "?wait=60")))
    waiting.start()
    cloud.forget(id)
    waiting.join(timeout=50)
    assert answers[0]["state"] == "success"
