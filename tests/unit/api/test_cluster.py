"""How the cloud is, and what needs somebody."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.api.cloud import NOW, Cloud
from ucloud.api.finding import findings
from ucloud.base.clock import timestamp
from ucloud.model.bookkeeping import CONTROL_LOOPS, Lock
from ucloud.model.host import Inventory
from ucloud.model.vm import Placement
from ucloud.store.contract import StoreMember

GOOD = StoreMember(
    name="etcd-1", endpoint="http://[::1]:1", answers=True, leads=True, has_leader=True, db_bytes=100, quota_bytes=1000
)


@pytest.fixture
def well(cloud: Cloud) -> Cloud:
    """One host, one image, and all loops led."""
    cloud.put(*(Lock(loop=loop, owner="control-1") for loop in CONTROL_LOOPS))
    cloud.add_host("h1")
    cloud.add_image()
    return cloud


def shown(cloud: Cloud) -> dict[str, Any]:
    cloud.catch_up()
    return cloud.ok("GET", "/v1/cluster")


def whats(cloud: Cloud) -> list[str]:
    return [finding["what"] for finding in shown(cloud)["findings"]]


def test_a_cloud_that_is_well(well: Cloud) -> None:
    vm, _ = well.add_vm("web")
    well.run(vm, well.ok("GET", "/v1/hosts/h1")["host"]["id"])
    told = shown(well)
    assert (told["is_well"], told["findings"]) == (True, [])
    assert told["leaders"] == dict.fromkeys(CONTROL_LOOPS, "control-1")
    counted = told["counted"]
    assert (counted["hosts"], counted["images"], counted["vms"]) == ({"up": 1}, {"ready": 1}, {"running": 1})
    assert (counted["pools"], counted["networks"]) == (["default"], {"public": 1})
    assert (told["etcd"][0]["leads"], told["etcd"][0]["alarms"]) == (True, [])


def test_nobody_leads(well: Cloud) -> None:
    well.store.commit(deletes=["lock/image"])
    assert whats(well) == ["nobody leads: image; so what that decides waits"]


def test_a_host_that_is_down_and_one_with_strays(well: Cloud) -> None:
    h2 = well.add_host("h2", alive=False)
    h3 = well.add_host("h3")
    vm, _ = well.add_vm("web")
    well.place(vm, h2)
    well.put(Inventory(host=h3, cpus=1, memory_mib=512, hypervisor="fake", accel="fake", version="1", stray_vms=("vm-lost",)))
    assert whats(well) == [
        "h2 is down, with 1 VM placed there",
        "h3 has traces of VMs that it shall not have: vm-lost",
    ]


def test_an_image_that_failed_and_a_record_that_cannot_be_read(well: Cloud) -> None:
    bad = well.add_image("bad")
    well.examine(bad, error="it is no disk")
    well.store.commit({"placement/vm-x": b"?"})
    what = whats(well)
    assert what[0].startswith("the record placement/vm-x cannot be read")
    assert what[1] == "the image bad cannot be used: it is no disk"


def test_vms_that_wait_for_the_same_are_said_once(well: Cloud) -> None:
    for number in range(7):
        vm, _ = well.add_vm(f"web-{number}")
        well.put(Placement(vm=vm, host="", epoch=0, since=NOW, reason="no host has 512 MiB free"))
    (group,) = shown(well)["counted"]["waiting"]
    assert (group["vms"], len(group["names"]), group["needs_somebody"]) == (7, 5, True)
    (what,) = whats(well)
    assert what == f"7 VMs wait ({', '.join(group['names'])} and 2 others) for {group['what']}"
    assert group["what"].endswith("no host has 512 MiB free")


def test_who_waits_only_for_a_moment_needs_nobody(well: Cloud) -> None:
    well.add_vm("web")
    told = shown(well)
    assert told["counted"]["waiting"][0]["needs_somebody"] is False
    assert told["is_well"]


def test_what_takes_longer_than_anything_should(well: Cloud) -> None:
    host = well.add_host("h2")
    vm, _ = well.add_vm("web")
    well.place(vm, host)
    well.say(vm, host, "starting", since=timestamp(well.services.clock.now_s() - 3600))
    assert whats(well) == ["web waits for disk and guest to be ready"]


def test_a_guest_that_crashes_again_and_again(well: Cloud) -> None:
    host = well.add_host("h2")
    vm, _ = well.add_vm("web")
    well.place(vm, host)
    well.say(vm, host, "running", crashes=5)
    assert whats(well) == ["the guest of web crashes again and again"]


@pytest.mark.parametrize(
    ("members", "starts"),
    [
        ([GOOD], []),
        ([GOOD, StoreMember(name="etcd-2", endpoint="http://[::1]:2", error="silence")], ["the etcd member etcd-2 does not"]),
        ([StoreMember(name="etcd-1", endpoint="x", answers=True)], ["etcd has no leader"]),
        (
            [StoreMember(name="etcd-1", endpoint="x", error="silence")],
            ["etcd has no leader", "the etcd member etcd-1 does not"],
        ),
        ([replace(GOOD, alarms=("NOSPACE",))], ["the etcd member etcd-1 is full"]),
        ([replace(GOOD, db_bytes=601)], ["the etcd member etcd-1 uses 60 %"]),
    ],
)
def test_etcd(members: Sequence[StoreMember], starts: Sequence[str]) -> None:
    *found, blind = findings(members, None, None)
    assert len(found) == len(starts)
    assert all(finding.what.startswith(start) for finding, start in zip(found, starts, strict=True))
    assert blind.what.startswith("this API knows nothing current")
