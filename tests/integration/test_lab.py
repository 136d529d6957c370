"""Hosts, etcd members, API and control processes fail, one way or another: what should go on goes on, and what failed comes
back. A cloud of three hosts and three etcd members; guests and networks are pretended."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.processes import IMAGE
from tests.integration.lab_cloud import DEADLINE_S, LabCloud, lab_cloud, wait_until
from tests.leftovers import cloud_name, ucloud
from ucloud.base.clock import SystemClock
from ucloud.driver.link.linux import LinuxLinks
from ucloud.driver.process.linux import status_of
from ucloud.store.etcd import EtcdStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOSTS = ("h1", "h2", "h3")


class Lab(LabCloud):
    def lab(self, verb: str, *arguments: str) -> None:
        done = ucloud("lab", verb, "--name", self.name, *arguments)
        assert done.returncode == 0, done.stderr

    def refused(self, verb: str, *arguments: str) -> str:
        done = ucloud("lab", verb, "--name", self.name, *arguments)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr

    def create(self, host: str = "") -> dict[str, Any]:
        """A VM that runs, on `host` if that is given."""
        for _ in range(20):
            name = f"vm-{os.urandom(4).hex()}"
            with self.client() as api:
                vm, action = api.create_vm(name, IMAGE, memory_mib=16)
                assert api.wait(action, DEADLINE_S)["state"] == "success"
                vm = api.vm(vm["id"])
            if host in ("", vm["host"]):
                return vm
        raise AssertionError(f"of 20 VMs none was placed on {host}")

    def vm(self, vm: dict[str, Any]) -> dict[str, Any]:
        with self.client() as api:
            return api.vm(vm["id"])

    def host_state(self, host: str) -> str:
        with self.client() as api:
            return str(api.host(host)["state"])

    def status_code(self, path: str) -> int:
        return httpx.get(f"{self.url}{path}", timeout=DEADLINE_S, trust_env=False).status_code

    def daemons(self) -> dict[str, dict[str, Any]]:
        return {daemon["name"]: daemon for daemon in self.status()["daemons"]}

    def pids(self) -> dict[str, int]:
        return {name: daemon["pid"] for name, daemon in self.daemons().items()}

    def pids_on(self, host: str) -> list[str]:
        """Processes of a host."""
        command = ["ip", "netns", "pids", f"{self.name}-{host}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def leader(self) -> str:
        """The control process that places VMs; empty while there is none."""
        store = EtcdStore(self.status()["etcd"]["endpoints"], SystemClock())
        item = store.get("lock/scheduler")
        store.close()
        pid = int(json.loads(item.value)["owner"].rpartition(":")[2]) if item else 0
        return next((name for name, daemon in self.daemons().items() if pid and daemon["pid"] == pid), "")


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    with lab_cloud("l", Lab, "--network", "fake") as lab:
        yield lab


@pytest.fixture
def lab(own: Lab) -> Iterator[Lab]:
    """In order, before and after."""
    yield own
    own.up()
    assert not any(shown["faults"] for shown in (*own.status()["hosts"], *own.status()["daemons"]))
    with own.client() as api:
        for vm in list(api.vms()):
            api.delete_vm(vm["id"])
        wait_until(lambda: not list(api.vms()), "all VMs are gone")


KINDS = ("etcd", "api", "control", "metadata", "deadman", "lease", "host")


def test_three_hosts(lab: Lab) -> None:
    told = lab.status()
    assert len(told["etcd"]["endpoints"]) == 3
    each = {f"{kind}-{number}" for kind in KINDS for number in (1, 2, 3)}
    assert set(lab.daemons()) == {"router", *each}
    assert [(host["name"], host["state"], host["faults"]) for host in told["hosts"]] == [(host, "up", []) for host in HOSTS]
    assert {lab.create(host)["host"] for host in HOSTS} == set(HOSTS)


def test_power_loss_of_a_host(lab: Lab) -> None:
    vm = lab.create("h2")
    assert ucloud("lab", "exec", "--name", lab.name, "h2", "--", "ip", "tuntap", "add", "ut1", "mode", "tap").returncode == 0
    lab.lab("kill", "h2")
    assert lab.pids_on("h2") == []
    assert LinuxLinks().interfaces(lab.plan.namespace("h2")) == {"lo", "up0"}
    assert not (lab.state_dir / "run" / "h2").exists()
    assert lab.daemons()["host-2"]["faults"] == ["killed"]
    wait_until(lambda: lab.host_state("h2") == "fenced", "h2 is declared dead")
    wait_until(lambda: runs_elsewhere(lab, vm, "h2"), "the VM runs elsewhere")
    assert lab.create()["host"] != "h2"
    lab.lab("boot", "h2")
    wait_until(lambda: lab.host_state("h2") == "up", "h2 is used again")


def runs_elsewhere(lab: Lab, vm: dict[str, Any], host: str) -> bool:
    """Under another epoch, as the same boot."""
    shown = lab.vm(vm)
    is_another = shown["host"] != host and shown["epoch"] > vm["epoch"] and shown["boots"] == vm["boots"]
    return bool(shown["phase"] == "running" and is_another)


def test_the_machine_reaches_hosts_but_not_as_one_of_them(lab: Lab) -> None:
    """Hosts trust each other's addresses."""
    plan = lab.plan
    host, liar = str(plan.address("h2")), f"{plan.subnet[0x666]}"
    assert subprocess.run(["ping", "-c", "1", "-W", str(DEADLINE_S), host]).returncode == 0
    address = [f"{liar}/128", "dev", plan.machine_link]
    subprocess.run(["ip", "address", "add", *address, "nodad"], check=True)
    try:
        assert subprocess.run(["ping", "-c", "1", "-W", "1", "-I", liar, host]).returncode == 1
    finally:
        subprocess.run(["ip", "address", "delete", *address], check=True)


@pytest.mark.parametrize(("fault", "end"), [("cut", "heal"), ("freeze", "thaw")])
def test_a_host_is_gone_for_a_while(lab: Lab, fault: str, end: str) -> None:
    vm, before = lab.create("h1"), lab.pids()
    lab.lab(fault, "h1")
    wait_until(lambda: lab.host_state("h1") == "fenced", "h1 is declared dead")
    wait_until(lambda: runs_elsewhere(lab, vm, "h1"), "the VM runs elsewhere")
    assert lab.create()["host"] != "h1"
    lab.lab(end, "h1")
    wait_until(lambda: lab.host_state("h1") == "up", "h1 is used again")
    assert lab.pids() == before


def test_a_host_daemon_alone_is_frozen(lab: Lab) -> None:
    lab.lab("freeze", "h3", "--only", "daemon")
    pids = lab.pids()
    states = {name: Path(f"/proc/{pids[name]}/stat").read_text().rpartition(")")[2].split()[0] for name in pids}
    assert [name for name, state in states.items() if state == "T"] == ["host-3"]
    lab.lab("thaw", "h3")
    wait_until(lambda: lab.host_state("h3") == "up", "h3 is up")


def test_a_command_in_the_network_of_a_host(lab: Lab) -> None:
    done = ucloud("lab", "exec", "--name", lab.name, "h2", "--", "ip", "-6", "address", "show", "dev", "up0")
    assert "::2/64" in done.stdout
    assert ucloud("lab", "exec", "--name", lab.name, "h2", "--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(("fault", "end"), [("kill", "boot"), ("freeze", "thaw")])
def test_each_api_process_fails_in_turn(lab: Lab, fault: str, end: str) -> None:
    """While one client goes on asking."""
    with lab.client() as api:
        for process in ("api-1", "api-2", "api-3"):
            lab.lab(fault, process)
            _, action = api.create_vm(f"vm-{process}", IMAGE, memory_mib=16)
            assert api.wait(action, DEADLINE_S)["state"] == "success"
            lab.lab(end, process)
            wait_until(lambda process=process: lab.pids()[process] > 0, f"{process} runs")  # type: ignore[misc]


def test_a_cut_host_swallows_no_requests(lab: Lab) -> None:
    for host in HOSTS:
        lab.lab("cut", host)
        with lab.client() as api:
            assert len(list(api.hosts())) == 3
        lab.lab("heal", host)
        wait_until(lambda host=host: lab.host_state(host) == "up", f"{host} is up")  # type: ignore[misc]


def test_another_control_process_takes_over(lab: Lab) -> None:
    wait_until(lambda: bool(lab.leader()), "one leads")
    leader = lab.leader()
    lab.lab("kill", leader)
    lab.create()
    assert lab.leader() not in ("", leader)
    assert lab.pids()[leader] == 0


@pytest.mark.parametrize(("fault", "end"), [("kill", "boot"), ("cut", "heal")])
def test_each_etcd_member_fails_in_turn(lab: Lab, fault: str, end: str) -> None:
    """One of them leads."""
    hosts = {name: pid for name, pid in lab.pids().items() if name.startswith("host-")}
    for member in ("etcd-1", "etcd-2", "etcd-3"):
        lab.lab(fault, member)
        lab.create()
        lab.lab(end, member)
        wait_until(lambda member=member: answers(lab, member), f"{member} is back")  # type: ignore[misc]
    assert hosts.items() <= lab.pids().items()


def answers(lab: Lab, member: str) -> bool:
    endpoint = lab.status()["etcd"]["endpoints"][int(member[-1]) - 1]
    try:
        return bool(httpx.get(f"{endpoint}/health", timeout=5, trust_env=False).json()["health"] == "true")
    except httpx.TransportError:
        return False


def test_without_quorum_the_api_says_so_and_guests_go_on(lab: Lab) -> None:
    vm, before = lab.create(), lab.pids()
    lab.lab("cut", "etcd-1")
    lab.lab("cut", "etcd-2")
    answer = httpx.get(f"{lab.url}/v1/vms/{vm['id']}", timeout=DEADLINE_S, trust_env=False)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"]
    assert "Retry-After" in answer.headers
    wait_until(lambda: lab.status_code("/readyz") == 503, "the API says that it is not ready")
    lab.lab("heal", "etcd-1")
    lab.lab("heal", "etcd-2")
    wait_until(lambda: lab.status_code(f"/v1/vms/{vm['id']}") == 200, "the API answers again")
    wait_until(lambda: lab.vm(vm)["phase"] == "running", "the VM is known to run")
    assert lab.vm(vm)["boots"] == vm["boots"]
    assert lab.pids() == before


def test_up_undoes_all_faults(lab: Lab) -> None:
    frozen = [pid for name, pid in lab.pids().items() if name.endswith("-3")]
    lab.lab("kill", "h2")
    lab.lab("cut", "etcd-1")
    lab.lab("freeze", "api-3")
    lab.lab("freeze", "h3")
    assert {status_of(pid)[0] for pid in frozen} == {"T"}
    said = lab.up()
    assert "undoing: api-3 frozen, etcd-1 cut, h2 killed, h3 frozen" in said
    assert [lab.host_state(host) for host in HOSTS] == ["up"] * 3
    assert not [pid for pid in frozen if status_of(pid)[0] == "T"]


def test_what_cannot_be_done_is_refused_in_words(lab: Lab) -> None:
    assert "there is no h9 here; there are h1" in lab.refused("kill", "h9")
    for name in ("host-1", "router"):
        assert f"there is no {name} here" in lab.refused("kill", name)
    assert "cut its host, h1" in lab.refused("cut", "api-1")
    assert "--only" in lab.refused("freeze", "h1", "--only", "metadata")
    lab.lab("kill", "h3")
    for verb in ("freeze", "exec"):
        assert "h3 is off" in lab.refused(verb, "h3", *(["--", "true"] if verb == "exec" else []))
    assert "h3 is off: boot it first" in lab.refused("boot", "etcd-3")
    assert "is not running" in ucloud("lab", "kill", "h1", "--name", cloud_name("z")).stderr
