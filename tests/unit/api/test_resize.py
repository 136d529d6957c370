"""Resize: of which VMs, to what, and when it is done."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.cloud import NOW, Cloud
from ucloud.api import phase
from ucloud.api.records import StoreSource
from ucloud.model.vm import Placement, Vm

RESIZE = "/v1/vms/web/actions/resize"


@pytest.fixture
def host(cloud: Cloud) -> str:
    cloud.add_image()
    return cloud.add_host(cpus=4, memory_mib=4096)


def stopped(cloud: Cloud, host: str) -> str:
    id, _ = cloud.add_vm(memory_mib=512, disk_mib=100)
    cloud.run(id, host)
    cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)
    cloud.place(id, host)
    cloud.say(id, host, "stopped")
    return id


def waits(cloud: Cloud, id: str, lack: str = "h1 has 100 MiB free, 512 MiB more are needed") -> None:
    """As the scheduler says it."""
    placement = cloud.read(Placement, Placement.at(id))
    cloud.put(msgspec.structs.replace(placement, waits_for=lack, waits_since=NOW))
    cloud.catch_up()


def action(cloud: Cloud, id: str) -> dict[str, Any]:
    found: dict[str, Any] = cloud.ok("GET", f"/v1/actions/{id}")["action"]
    return found


def test_what_is_named_changes_and_it_is_done_when_the_host_has_confirmed_it(cloud: Cloud, host: str) -> None:
    id = stopped(cloud, host)
    answer = cloud.ok("POST", RESIZE, json={"cpus": 2, "memory_mib": 1024}, status=202)
    assert (answer["vm"]["cpus"], answer["vm"]["memory_mib"], answer["vm"]["disk_mib"]) == (2, 1024, 100)
    assert (answer["action"]["verb"], answer["action"]["state"]) == ("resize", "running")
    assert answer["action"]["progress"] == "stopped: waiting for the scheduler to tell h1"
    cloud.place(id, host)
    assert action(cloud, answer["action"]["id"])["progress"] == "stopped: waiting for h1 to take note of it"
    cloud.say(id, host, "stopped")
    assert action(cloud, answer["action"]["id"])["state"] == "success"
    grown = cloud.ok("POST", RESIZE, json={"disk_mib": 200}, status=202)["vm"]
    assert (grown["cpus"], grown["memory_mib"], grown["disk_mib"]) == (2, 1024, 200)


def test_what_is_so_already_needs_nothing(cloud: Cloud, host: str) -> None:
    id = stopped(cloud, host)
    before = cloud.revision(Vm.at(id))
    assert cloud.ok("POST", RESIZE, json={"memory_mib": 512, "disk_mib": 100}, status=202)["action"]["state"] == "success"
    assert cloud.revision(Vm.at(id)) == before


def test_while_it_waits_for_room_it_says_so(cloud: Cloud, host: str) -> None:
    id = stopped(cloud, host)
    resized = cloud.ok("POST", RESIZE, json={"memory_mib": 1024}, status=202)["action"]["id"]
    waits(cloud, id)
    vm = cloud.ok("GET", "/v1/vms/web")["vm"]
    room = "room for its new size: h1 has 100 MiB free, 512 MiB more are needed"
    assert (vm["phase"], vm["waiting_for"]) == ("stopped", {"what": room, "who": "scheduler", "since": NOW})
    seen = action(cloud, resized)
    assert (seen["state"], seen["progress"]) == ("running", f"stopped: waiting for {room}")


def test_started_and_stopped_while_it_waits_for_room(cloud: Cloud, host: str) -> None:
    """It does not start with less than it was promised; and to stop what does not run takes no room."""
    id = stopped(cloud, host)
    resized = cloud.ok("POST", RESIZE, json={"memory_mib": 1024}, status=202)["action"]["id"]
    waits(cloud, id)
    start = cloud.ok("POST", "/v1/vms/web/actions/start", status=202)
    assert (start["vm"]["phase"], start["action"]["state"]) == ("starting", "running")
    assert "512 MiB more are needed" in start["action"]["progress"]
    assert cloud.refused(409, "POST", RESIZE, json={"memory_mib": 512})["message"] == "stop it first: ucloud vm stop web"
    stop = cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)["action"]
    assert stop["state"] == "success"
    assert action(cloud, start["action"]["id"])["state"] == "success", "superseded"
    assert action(cloud, resized)["state"] == "running"
    again = cloud.ok("POST", "/v1/vms/web/actions/start", status=202)["action"]["id"]
    assert [action(cloud, id)["state"] for id in (stop["id"], again)] == ["success", "running"], "it was stopped meanwhile"
    cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)
    back = cloud.ok("POST", RESIZE, json={"memory_mib": 512}, status=202)["action"]["id"]
    cloud.place(id, host)
    cloud.say(id, host, "stopped")
    assert [action(cloud, id)["state"] for id in (resized, back)] == ["success", "success"]


@pytest.mark.parametrize("said", ["starting", "running", "stopping", "off"])
def test_it_must_be_stopped_and_its_host_must_have_said_so(cloud: Cloud, host: str, said: Any) -> None:
    """A guest that powered itself off may still have its process, and its memory."""
    id, _ = cloud.add_vm()
    cloud.place(id, host)
    for power in ("on", "off"):
        if power == "off":
            cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)
        cloud.say(id, host, said)
        assert cloud.refused(409, "POST", RESIZE, json={"cpus": 2})["message"] == "stop it first: ucloud vm stop web"


def test_an_older_stop_is_no_proof(cloud: Cloud, host: str) -> None:
    """The host was told to run it, and has not said anything since; then it is to stop again."""
    id = stopped(cloud, host)
    cloud.ok("POST", "/v1/vms/web/actions/start", status=202)
    cloud.place(id, host)
    cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)
    cloud.refused(409, "POST", RESIZE, json={"cpus": 2})
    cloud.place(id, host)
    cloud.refused(409, "POST", RESIZE, json={"cpus": 2})
    cloud.say(id, host, "stopped")
    cloud.ok("POST", RESIZE, json={"cpus": 2}, status=202)


def test_one_that_waits_for_a_host_is_resized_at_once(cloud: Cloud, host: str) -> None:
    cloud.add_vm()
    answer = cloud.ok("POST", RESIZE, json={"memory_mib": 1024}, status=202)
    assert (answer["vm"]["phase"], answer["vm"]["memory_mib"], answer["action"]["state"]) == ("pending", 1024, "success")


def test_one_that_is_placed_meanwhile_is_not(cloud: Cloud, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was looked at, and before the commit."""
    id, _ = cloud.add_vm()
    looked: list[str] = []
    gather = phase.gather

    def gather_and_place(source: StoreSource, vm: Any) -> Any:
        sight = gather(source, vm)
        if not looked:
            looked.append(id)
            cloud.place(id, host)
        return sight

    monkeypatch.setattr(phase, "gather", gather_and_place)
    cloud.refused(409, "POST", RESIZE, json={"memory_mib": 256})
    assert cloud.read(Vm, Vm.at(id)).memory_mib == 512


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "cpus"),
        ({"cpus": 0}, "cpus"),
        ({"memory_mib": 15}, "memory_mib"),
        ({"disk_mib": 99}, "disk_mib"),
        ({"memory": 512}, "memory"),
    ],
)
def test_what_cannot_be(cloud: Cloud, host: str, body: dict[str, int], field: str) -> None:
    stopped(cloud, host)
    assert field in cloud.refused(422, "POST", RESIZE, json=body)["details"]


def test_a_disk_that_is_to_shrink_is_told_its_size(cloud: Cloud, host: str) -> None:
    stopped(cloud, host)
    error = cloud.refused(422, "POST", RESIZE, json={"disk_mib": 99})
    assert error["message"] == "disk_mib: the disk has 100 MiB, and can only grow"


def test_more_than_its_host_has_in_total_is_refused_at_once(cloud: Cloud, host: str) -> None:
    """However large others are: it does not move."""
    cloud.add_host("h2", cpus=64, memory_mib=1 << 20)
    stopped(cloud, host)
    error = cloud.refused(507, "POST", RESIZE, json={"memory_mib": 5000})
    expected = "no host that it may run on has 1 core and 5000 MiB of memory in total; the largest have 4 cores and 4096 MiB"
    assert error["message"] == expected
    cloud.refused(507, "POST", RESIZE, json={"cpus": 5})


def test_whoever_gets_smaller_is_not_refused(cloud: Cloud, host: str) -> None:
    stopped(cloud, host)
    cloud.ok("PATCH", "/v1/hosts/h1", json={"memory_mib": 256})
    cloud.catch_up()
    cloud.ok("POST", RESIZE, json={"memory_mib": 400}, status=202)


def test_a_deleted_one_is_not_resized(cloud: Cloud, host: str) -> None:
    stopped(cloud, host)
    cloud.ok("DELETE", "/v1/vms/web", status=202)
    assert cloud.refused(409, "POST", RESIZE, json={"cpus": 2})["message"] == "the VM is being deleted"


def test_hosts_are_as_full_as_they_were_told(cloud: Cloud, host: str) -> None:
    stopped(cloud, host)
    cloud.ok("POST", RESIZE, json={"memory_mib": 1024}, status=202)
    cloud.catch_up()
    assert cloud.ok("GET", "/v1/hosts/h1")["host"]["memory_used_mib"] == 512
