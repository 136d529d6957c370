"""Daemons are killed while VMs, and ports of running ones, come and go: everything converges by itself, nothing is lost, twice
or left."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningCloud
from tests.contract.hypervisors import LET_GO, LISTEN, PRINT, boot_sector
from tests.e2e.conftest import DEADLINE_S, Traces, upload, wait_for
from tests.e2e.test_vm import daemon_pid, guest_pid
from ucloud.client import Client
from ucloud.daemon import supervisor
from ucloud.daemon.cloud import load_cloud
from ucloud.daemon.lab_marks import Marks
from ucloud.driver.overlay import names

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.parametrize("kind", ["api", "control", "host"])
def test_daemon_killed_while_vms_come_and_go(
    cloud: RunningCloud, api: Client, traces: Traces, obedient: str, kind: str
) -> None:
    chance = random.Random(kind)
    ids = []
    for number in range(4):
        vm, _ = api.create_vm(f"{kind}-{number}", obedient, memory_mib=64)
        ids.append(vm["id"])
        if chance.random() < 0.5 or number == 3:
            os.kill(daemon_pid(cloud, kind), signal.SIGKILL)
    wait_for(lambda: [vm["phase"] for vm in api.vms()] == ["running"] * 4, "all to run")
    assert [vm["id"] for vm in api.vms()] == ids, "no request was carried out twice or lost"
    assert [len(traces.processes(id)) for id in ids] == [1] * 4
    for id in ids:
        api.delete_vm(id)
        if chance.random() < 0.5 or id == ids[-1]:
            os.kill(daemon_pid(cloud, kind), signal.SIGKILL)
    wait_for(lambda: not list(api.vms()), "all to be gone")
    wait_for(lambda: not any(map(traces.of, ids)), "nothing left of them, nor their names in the network's DNS")


class Port:
    """What a host makes of a VM's port on a network that nobody else is on, in this order. Looking at it takes no time."""

    PARTS = ("bridge", "tap", "route", "service", "reservation", "cable")

    def __init__(self, cloud: RunningCloud, vm: str, guest: int, network: dict[str, Any]) -> None:
        """guest: its process."""
        vni = network["vni"]
        self.bridge, self.tap = names.bridge(vni), names.tap(vni, vm)
        self._resolver, self._vm = cloud.state_dir / "run" / "h1" / "resolver" / f"{vni}", vm
        self._subnet = IPv6Address(network["ipv6"].removesuffix("/64")).packed.hex()[:16]
        self._network = Path(f"/proc/{daemon_pid(cloud, 'api')}/net")  # as any process of the host sees it
        self._opened = Path(f"/proc/{guest}/fdinfo")

    def parts(self) -> list[str]:
        links = (self._network / "dev").read_text()
        there = (
            f"{self.bridge}:" in links,
            f"{self.tap}:" in links,
            any(map(self._is_route, (self._network / "ipv6_route").read_text().splitlines())),
            (self._resolver / "log").exists(),
            (self._resolver / "guests" / self._vm).exists(),
            any(map(self._is_cable, self._opened.iterdir())),
        )
        return [part for part, is_there in zip(self.PARTS, there, strict=True) if is_there]

    def _is_route(self, line: str) -> bool:
        """To a single address of the network (proc(5))."""
        destination, length, *_, interface = line.split()
        return destination.startswith(self._subnet) and length == "80" and interface == self.bridge

    def _is_cable(self, opened: Path) -> bool:
        """Between the guest and its tap."""
        with suppress(FileNotFoundError):  # closed meanwhile
            return f"iff:\t{self.tap}\n" in opened.read_text()
        return False


def test_host_daemon_killed_while_a_running_guest_gets_and_loses_a_port(
    cloud: RunningCloud, api: Client, traces: Traces, tmp_path: Path
) -> None:
    """As soon as one part after the other is there, or is gone."""
    file = tmp_path / "willing.raw"
    file.write_bytes(boot_sector(PRINT + LISTEN + LET_GO).ljust(1 << 20, b"\0"))
    image = upload(api, "willing", file)
    vm, _ = api.create_vm("moving", image, memory_mib=64)
    wait_for(lambda: b"hello" in api.vm_log(vm["id"])[0], "the guest to greet")
    network = api.create_network("inner", ipv4="10.7.0.0/24")
    plan = load_cloud(cloud.state_dir / "cloud.json")
    marks = Marks(plan.marks_dir)
    guest, before = guest_pid(traces, vm["id"]), traces.network(vm["id"])
    port = Port(cloud, vm["id"], guest, network)

    def killed(change: Callable[[str, str], dict[str, Any]], part: str, comes: bool) -> None:
        """While it brings a change about. Marked as killed it is no daemon that keeps ending by itself, and comes back soon."""
        with marks.locked():
            marks.add("host-1", "killed")
            daemon = daemon_pid(cloud, "host")
            action = change(vm["id"], "inner")
            wait_for(lambda: (part in port.parts()) == comes, f"the {part} to {'come' if comes else 'go'}", pause_s=0)
            os.kill(daemon, signal.SIGKILL)
            wait_for(lambda: all(state.pid != daemon for state in supervisor.states(plan)), "the supervisor to see it end")
            marks.remove("host-1", "killed")
        does(action)

    def does(action: dict[str, Any]) -> None:
        assert api.wait(action, DEADLINE_S)["state"] == "success"

    for part in Port.PARTS:
        killed(api.attach_vm, part, comes=True)
        assert port.parts() == [*Port.PARTS]
        _, told = api.vm(vm["id"])["ports"]
        filters = [line for line in cloud.inside("h1", "nft", "list", "ruleset").splitlines() if f'"{port.tap}"' in line]
        assert any(told["ipv6"] in line and told["ipv4"] in line for line in filters)
        killed(api.detach_vm, part, comes=False)
        assert port.parts() == []
        assert traces.network(vm["id"]) == before
        wait_for(lambda: api.network("inner")["vms"] == 0, "its addresses to be free again")
    assert guest_pid(traces, vm["id"]) == guest, "which has never noticed"
    does(api.delete_network("inner"))
    does(api.delete_vm(vm["id"]))
    wait_for(lambda: not traces.of(vm["id"]), "nothing left of it")
    does(api.delete_image(image))
