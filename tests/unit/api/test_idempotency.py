"""A POST that is sent again, because its answer was lost, happens once: whichever route it goes to."""

from typing import Any

import pytest

from tests.unit.api.cloud import Cloud
from ucloud.model.vm import Vm

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def vm(cloud: Cloud) -> str:
    """The id of one that runs."""
    host = cloud.add_host()
    cloud.add_image()
    id, _ = cloud.add_vm("web")
    cloud.run(id, host)
    return id


def records(cloud: Cloud) -> dict[str, int]:
    return {item.key: item.mod_revision for item in cloud.store.list("").items}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("hosts", {"name": "h2"}, 201),
        ("pools", {"name": "fast", "path": "/srv/fast"}, 201),
        ("images", {"name": "second", "bytes": 1, "sha256": "0" * 64}, 201),
        ("images", {"name": "copy", "source": "tiny"}, 201),
        ("vms", {"name": "db", "image": "tiny"}, 202),
        ("vms/web/actions/stop", {}, 202),
        ("vms/web/actions/reboot", {}, 202),
        ("vms/web/actions/reset", {}, 202),
    ],
)
def test_what_is_sent_twice_happens_once(cloud: Cloud, vm: str, path: str, body: dict[str, Any], status: int) -> None:
    first = cloud.ok("POST", f"/v1/{path}", json=body, status=status, headers=KEY)
    after = records(cloud)
    assert cloud.ok("POST", f"/v1/{path}", json=body, status=status, headers=KEY) == first
    assert records(cloud) == after
    cloud.refused(409, "POST", "/v1/vms", json={"name": "another", "image": "tiny"}, headers=KEY)


def test_what_comes_late_does_not_undo_what_came_after(cloud: Cloud, vm: str) -> None:
    host = cloud.ok("GET", "/v1/hosts/h1")["host"]["id"]

    def stop() -> None:
        cloud.ok("POST", "/v1/vms/web/actions/stop", status=202)
        cloud.place(vm, host)
        cloud.say(vm, host, "stopped")

    def resize_and_start() -> None:
        cloud.ok("POST", "/v1/vms/web/actions/resize", status=202, json={"cpus": 2}, headers={"Idempotency-Key": "resize"})
        cloud.ok("POST", "/v1/vms/web/actions/start", status=202, headers={"Idempotency-Key": "start"})

    stop()
    resize_and_start()
    stop()
    cloud.ok("POST", "/v1/vms/web/actions/resize", status=202, json={"cpus": 1})
    after = cloud.read(Vm, Vm.at(vm))
    resize_and_start()
    assert cloud.read(Vm, Vm.at(vm)) == after
    assert (after.power, after.cpus) == ("off", 1)
