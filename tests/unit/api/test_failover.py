"""What people say of failover, and what they are told: pools, --ha, arming, the word that a machine is off, dead hosts' VMs."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.cloud import NOW, Cloud
from ucloud.model.host import Alive, Failover, Fence, Hold, Host, Inventory
from ucloud.model.vm import Manifest, Placement, Vm


def dies(cloud: Cloud, host: str, fence: Fence | None = None) -> None:
    inventory = cloud.read(Inventory, Inventory.at(host, "inventory"))
    cloud.put(msgspec.structs.replace(inventory, boot="b1"), *([fence] if fence else []))
    cloud.store.commit(deletes=[Alive.at(host)])
    cloud.catch_up()


def fence_of(host: str, boot: str = "b1", **changes: Any) -> Fence:
    made = Fence(host=host, number=3, boot=boot, phase="fenced", since=NOW, reason="its lease ran out")
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def running(cloud: Cloud) -> tuple[str, str]:
    host = cloud.add_host("h1")
    cloud.add_image()
    vm, _ = cloud.add_vm("web")
    cloud.run(vm, host)
    return host, vm


def seen(cloud: Cloud) -> dict[str, Any]:
    vm = cloud.ok("GET", "/v1/vms/web")["vm"]
    assert isinstance(vm, dict)
    return vm


def test_a_pool_says_who_has_its_files_and_what_cuts_off_the_dead(cloud: Cloud) -> None:
    assert not cloud.ok("POST", "/v1/pools", json={"name": "own", "path": "/own"}, status=201)["pool"]["shared"]
    made = cloud.ok("POST", "/v1/pools", json={"name": "nfs", "path": "/nfs", "shared": True, "fence": "command"}, status=201)
    assert (made["pool"]["shared"], made["pool"]["fence"]) == (True, "command")
    cloud.refused(422, "POST", "/v1/pools", json={"name": "x", "path": "/x", "fence": "command"})
    cloud.refused(422, "PATCH", "/v1/pools/own", json={"fence": "same-kernel"})
    cloud.refused(422, "PATCH", "/v1/pools/nfs", json={"shared": False})
    changed = cloud.ok("PATCH", "/v1/pools/own", json={"shared": True, "fence": "same-kernel"})["pool"]
    assert (changed["shared"], changed["fence"]) == (True, "same-kernel")


def test_what_a_vm_wants_if_its_host_dies(cloud: Cloud) -> None:
    cloud.add_image()
    usual, _ = cloud.add_vm("usual")
    assert (cloud.read(Vm, Vm.at(usual)).ha, cloud.read(Vm, Vm.at(usual)).priority) == ("restart", "normal")
    cloud.add_vm("db", ha="never", priority="high")
    shown = cloud.ok("GET", "/v1/vms/db")["vm"]
    assert (shown["ha"], shown["priority"]) == ("never", "high")
    changed = cloud.ok("PATCH", "/v1/vms/db", json={"ha": "restart", "priority": "low"})["vm"]
    assert (changed["ha"], changed["priority"]) == ("restart", "low")
    error = cloud.refused(422, "PATCH", "/v1/vms/db", json={"ha": "always", "priority": 1})
    assert set(error["details"]) == {"ha", "priority"}


def test_disarm_and_arm(cloud: Cloud) -> None:
    disarmed = cloud.ok("PATCH", "/v1/cluster", json={"armed": False, "reason": "new switches"})["failover"]
    assert (disarmed["armed"], disarmed["reason"]) == (False, "new switches")
    cloud.catch_up()
    shown = cloud.ok("GET", "/v1/cluster")
    assert (shown["is_well"], shown["counted"]["disarmed"]) == (False, "new switches")
    assert "failover is disarmed: new switches" in [finding["what"] for finding in shown["findings"]]
    revision = cloud.revision(Failover.at("failover"))
    cloud.ok("PATCH", "/v1/cluster", json={"armed": False, "reason": "new switches"})
    assert cloud.revision(Failover.at("failover")) == revision, "what changes nothing writes nothing"
    cloud.ok("PATCH", "/v1/cluster", json={"armed": True})
    cloud.catch_up()
    assert cloud.ok("GET", "/v1/cluster")["counted"]["disarmed"] is None
    cloud.refused(422, "PATCH", "/v1/cluster", json={"armed": False, "reason": "two\nlines"})
    cloud.refused(422, "PATCH", "/v1/cluster", json={})


def test_the_word_that_a_machine_is_off(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    ask = ("POST", "/v1/hosts/h1/actions/fence")
    cloud.refused(422, *ask, json={})
    cloud.refused(422, *ask, json={"confirm_off": False})
    cloud.refused(409, *ask, json={"confirm_off": True})
    dies(cloud, host)
    assert cloud.ok(*ask, json={"confirm_off": True})["host"]["confirmed_off"]
    assert cloud.read(Host, Host.at(host)).off == "b1"


def test_the_word_is_about_the_boot_that_was_declared_dead(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    dies(cloud, host, fence_of(host, boot="b0"))
    cloud.ok("POST", "/v1/hosts/h1/actions/fence", json={"confirm_off": True})
    assert cloud.read(Host, Host.at(host)).off == "b0"


def test_nobody_confirms_that_a_machine_is_off_that_never_ran(cloud: Cloud) -> None:
    cloud.ok("POST", "/v1/hosts", json={"name": "h9"}, status=201)
    cloud.refused(409, "POST", "/v1/hosts/h9/actions/fence", json={"confirm_off": True})


def test_states_of_a_host(cloud: Cloud) -> None:
    host = cloud.add_host("h1")

    def state() -> object:
        cloud.catch_up()
        return cloud.ok("GET", "/v1/hosts/h1")["host"]["state"]

    assert state() == "up"
    cloud.put(Alive(host=host, boot="b1", degraded=True))
    assert state() == "degraded"
    dies(cloud, host)
    assert state() == "down"
    cloud.put(fence_of(host, proofs={"default": "its lease ran out"}))
    assert state() == "fenced"
    fence = cloud.ok("GET", "/v1/hosts/h1")["host"]["fence"]
    assert (fence["number"], fence["phase"], fence["proofs"]) == (3, "fenced", {"default": "its lease ran out"})


def test_what_needs_somebody_while_hosts_are_dead(cloud: Cloud, running: tuple[str, str]) -> None:
    host, _ = running
    cloud.put(Alive(host=cloud.add_host("h2"), boot="b1", degraded=True))
    dies(cloud, host, fence_of(host, errors={"nfs": "nothing cuts it off"}))
    cloud.put(Hold(reason="too many", since=NOW, hosts=("host-x",)))
    cloud.catch_up()
    whats = " | ".join(finding["what"] for finding in cloud.ok("GET", "/v1/cluster")["findings"])
    for part in (
        "h1 was declared dead, with 1 VM placed there",
        "in the pool nfs",
        "h2 is degraded",
        "not declared dead: too many",
    ):
        assert part in whats


def test_a_vm_whose_host_is_silent_and_not_declared_dead(cloud: Cloud, running: tuple[str, str]) -> None:
    host, _ = running
    cloud.put(Hold(reason="the cluster is disarmed", since=NOW, hosts=(host,)))
    dies(cloud, host)
    vm = seen(cloud)
    assert (vm["phase"], vm["waiting_for"]["who"]) == ("unknown", "h1")
    assert vm["waiting_for"]["what"] == "h1 to be alive again; it is not declared dead: the cluster is disarmed"


def test_a_vm_whose_host_was_declared_dead(cloud: Cloud, running: tuple[str, str]) -> None:
    host, id = running
    dies(cloud, host, fence_of(host, phase="fencing"))
    vm = seen(cloud)
    assert (vm["phase"], vm["reason"]) == ("unknown", "h1 was declared dead (fence 3)")
    assert (vm["waiting_for"]["who"], vm["waiting_for"]["since"]) == ("hostmanager", NOW)
    dies(cloud, host, fence_of(host))
    assert seen(cloud)["waiting_for"]["who"] == "scheduler"
    later = "2026-11-22T14:59:00.000Z"
    stays = Placement(vm=id, host=host, epoch=2, since=NOW, reason="", waits_for="h1 to come back: why", waits_since=later)
    cloud.put(stays)
    cloud.catch_up()
    assert seen(cloud)["waiting_for"] == {"what": "h1 to come back: why", "who": "h1", "since": later}


def test_what_a_host_that_is_back_said_of_former_times_counts_no_more(cloud: Cloud, running: tuple[str, str]) -> None:
    host, _ = running
    cloud.put(fence_of(host))
    cloud.catch_up()
    assert seen(cloud)["phase"] == "placing", "its guest is killed before the host is used again"


def test_a_vm_whose_host_died_waits_for_room(cloud: Cloud, running: tuple[str, str]) -> None:
    host, id = running
    cloud.put(Placement(vm=id, host="", epoch=1, since=NOW, reason="no host has 512 MiB free"))
    cloud.store.commit(deletes=[Manifest.at(host, id)])
    cloud.catch_up()
    assert seen(cloud)["phase"] == "pending"
    cloud.ok("POST", f"/v1/vms/{id}/actions/stop", json={}, status=202)
    assert (seen(cloud)["phase"], seen(cloud)["reason"]) == ("stopped", "its host has died")


def test_a_vm_whose_disk_is_lost(cloud: Cloud, running: tuple[str, str]) -> None:
    _, id = running
    cloud.put(Placement(vm=id, host="", epoch=1, since=NOW, reason="its disk was lost with h1", lost=True))
    cloud.catch_up()
    vm = seen(cloud)
    assert (vm["phase"], vm["reason"], vm["waiting_for"]["who"]) == ("failed", "its disk was lost with h1", "its owner")
    told = cloud.ok("GET", "/v1/vms/web/explain")
    assert told["summary"] == "web has failed: its disk was lost with h1."
    assert [item["command"] for item in told["advice"]] == ["ucloud vm delete web"]
