"""Images for real guests, and a way to look for every trace that a VM may leave on this machine."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningCloud, free_port
from tests.contract.hypervisors import PROGRAMS
from tests.e2e.wide import Wide
from tests.leftovers import cloud_name, ucloud
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.driver.overlay.names import ROUTE_PRIVATE, ROUTE_PUBLIC
from ucloud.model.event import Event
from ucloud.model.record import decode
from ucloud.model.vm import Vm
from ucloud.store.etcd import EtcdStore

TREE = Path(__file__).parents[2]
DEADLINE_S = 300
ROUTE = re.compile(rf" proto ({ROUTE_PUBLIC}|{ROUTE_PRIVATE}) ")


def wait_for(condition: Callable[[], Any], what: str, pause_s: float = 0.1) -> Any:
    """The first true answer of `condition`."""
    until_s = time.monotonic() + DEADLINE_S
    while not (answer := condition()):
        assert time.monotonic() < until_s, f"waited {DEADLINE_S} s in vain for: {what}"
        time.sleep(pause_s)
    return answer


@pytest.fixture(scope="session")
def api(cloud: RunningCloud) -> Iterator[Client]:
    with cloud.client() as client:
        yield client


@pytest.fixture(scope="session")
def store(cloud: RunningCloud) -> Iterator[EtcdStore]:
    etcd = EtcdStore(cloud.status()["etcd"]["endpoints"], SystemClock())
    yield etcd
    etcd.close()


def upload(api: Client, name: str, file: Path) -> str:
    _, action = api.upload_image(name, file)
    assert api.wait(action, DEADLINE_S)["state"] == "success"
    return name


@pytest.fixture(scope="session")
def obedient(api: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Greets on the serial line within a second, sleeps, powers off when asked. No operating system."""
    file = tmp_path_factory.mktemp("obedient") / "disk.raw"
    file.write_bytes(PROGRAMS["obedient"].ljust(1 << 20, b"\0"))
    return upload(api, "obedient", file)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tiny") / "tiny.qcow2"
    subprocess.run([TREE / "script" / "tiny-image", file], check=True, stdin=subprocess.DEVNULL)
    return file


@pytest.fixture(scope="session")
def tiny(api: Client, tiny_file: Path) -> str:
    return upload(api, "tiny", tiny_file)


@pytest.fixture(scope="session")
def wide(no_leftovers: None) -> Iterator[Wide]:
    """One for the whole run. Tests leave no VM behind in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    state = Path(tempfile.mkdtemp(prefix="uct-"))
    cloud = Wide(cloud_name("n"), state, free_port())
    try:
        place = ["--name", cloud.name, "--state", str(state), "--port", str(cloud.port)]
        done = ucloud("up", *place, "--accel", "tcg", "--hosts", "3", "--etcd", "1", "--ttl", "6")
        assert done.returncode == 0, done.stderr
        yield cloud
    finally:
        done = ucloud("down", "--wipe", "--name", cloud.name)
    assert done.returncode == 0, done.stderr
    assert not state.exists(), list(state.rglob("*"))


@pytest.fixture(scope="session")
def wide_api(wide: Wide, tiny_file: Path) -> Iterator[Client]:
    with wide.client() as client:
        upload(client, "tiny", tiny_file)
        yield client


class Traces:
    """Everything on this machine and in the store that names an id, but for events: they tell of what was."""

    def __init__(self, cloud: RunningCloud, store: EtcdStore) -> None:
        self._cloud, self._store = cloud, store

    def of(self, vm: str) -> list[str]:
        return [*self.records(vm), *self.processes(vm), *self.files(vm), *self.mounts(vm), *self.links(vm), *self.network(vm)]

    def records(self, vm: str) -> list[str]:
        items = [item for item in self._store.list("").items if not item.key.startswith(Event.prefix)]
        return [item.key for item in items if vm in item.key or vm.encode() in item.value]

    def processes(self, vm: str) -> list[str]:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = file.read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if vm.encode() in command and b"qemu" in command:
                found.append(f"process {file.parent.name}")
        return found

    def files(self, vm: str) -> list[str]:
        roots = [self._cloud.state_dir, Path("/sys/fs/cgroup")]
        paths = (path for root in roots for path in root.rglob(f"*{vm}*") if path.name != "cloud.json")
        return [str(path) for path in paths]

    def mounts(self, vm: str) -> list[str]:
        return [line for line in Path("/proc/mounts").read_text().splitlines() if vm in line]

    def links(self, vm: str) -> list[str]:
        return [line for line in self._cloud.inside("h1", "ip", "-o", "link").splitlines() if vm[-7:] in line]

    def network(self, vm: str) -> list[str]:
        """Elements of the packet filter; routes and neighbours, which name no VM: all those to addresses that are nobody's."""
        elements = [line for line in self._cloud.inside("h1", "nft", "list", "ruleset").splitlines() if vm[-7:] in line]
        vms = [decode(Vm, item.value)[0] for item in self._store.list(Vm.prefix).items]
        owned = {address for vm in vms for port in vm.ports for address in (port.ipv6, port.ipv4)}
        return [*elements, *(line for line in routes(self._cloud, "h1") if line.split()[0] not in owned)]


def routes(cloud: RunningCloud, host: str) -> list[str]:
    """To the VMs on this host, and its neighbour entries for them."""
    shown = (line for family in ("-6", "-4") for line in cloud.inside(host, "ip", family, "route").splitlines())
    neighbours = cloud.inside(host, "ip", "neighbour", "show", "nud", "permanent").splitlines()
    return [*(line for line in shown if ROUTE.search(line)), *neighbours]


@pytest.fixture(scope="session")
def traces(cloud: RunningCloud, store: EtcdStore) -> Traces:
    return Traces(cloud, store)


@pytest.fixture
def clean(api: Client) -> Iterator[None]:
    """Whatever a test leaves is deleted."""
    yield
    for vm in list(api.vms()):
        api.delete_vm(vm["id"])
    wait_for(lambda: not list(api.vms()), "all VMs deleted")
