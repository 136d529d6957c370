"""What tests of several levels share: what earlier runs left is removed first; integration and e2e share one cloud per run."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.leftovers import cloud_name, remove_leftovers, ucloud
from ucloud.client import Client

settings.register_profile("ucloud", deadline=None)  # no test is about how fast a busy machine is
settings.load_profile("ucloud")

NOT_QUICK = {  # they start servers and programs, or work for a minute
    "tests/property/test_openapi.py",
    "tests/sim/test_protections.py",
    "unit/api/test_console.py",
    "unit/api/test_server.py",
    "unit/cli/test_addresses.py",
    "unit/cli/test_console.py",
    "unit/cli/test_example.py",
    "unit/cli/test_program.py",
}


IN_NAMESPACES = {  # they enter network namespaces (tests.namespaces) in this very process
    "contract/test_announcer.py",
    "contract/test_hypervisor.py",
    "contract/test_qemu.py",
    "contract/test_things.py",
    "integration/test_attack_tools.py",
    "integration/test_attacks.py",
    "integration/test_cloud_init.py",
    "integration/test_gateway.py",
    "integration/test_metadata.py",
    "integration/test_metadata_server.py",
    "integration/test_overlay.py",
    "integration/test_packetfilter.py",
    "integration/test_resolver.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="neither services, nor programs, nor what takes minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that enter namespaces come last: gRPC starts threads when it likes, which stay in the namespace where they began,
    and find no etcd from there."""
    items.sort(key=lambda item: "/".join(item.path.parts[-2:]) in IN_NAMESPACES)
    if config.getoption("--quick"):
        items[:] = [item for item in items if is_quick(item)]


def is_quick(item: pytest.Item) -> bool:
    """Contract tests by the parameter in brackets: test_list[memory], test_start[fake in a directory]."""
    if "contract" in item.path.parts:
        return "memory" in item.name or "fake" in item.name
    return "/".join(item.path.parts[-3:]) not in NOT_QUICK


class RunningCloud:
    """A cloud of one host on this machine, made by `ucloud up`, with real guests in emulation."""

    def __init__(self, name: str, state_dir: Path, port: int) -> None:
        self.name, self.state_dir, self.port = name, state_dir, port
        self.url = f"http://[::1]:{port}"

    def client(self) -> Client:
        return Client([f"unix:{self.state_dir}/run/api.sock"])

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(ucloud("status", "-o", "json", "--name", self.name).stdout)
        return told

    def inside(self, where: str, *command: str) -> str:
        """What a command prints in the network of a host, or of the router."""
        words = ["nsenter", f"--net=/run/netns/{self.name}-{where}", *command]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    if os.geteuid() == 0:
        remove_leftovers()


@pytest.fixture(scope="session")
def cloud(no_leftovers: None) -> Iterator[RunningCloud]:
    """One for the whole run. Tests leave no VM and no image behind in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    name, port = cloud_name("c"), free_port()
    state = Path(tempfile.mkdtemp(prefix="uct-"))  # not below pytest's own directory, which guests cannot enter
    try:
        done = ucloud("up", "--name", name, "--state", str(state), "--port", str(port), "--accel", "tcg")
        assert done.returncode == 0, done.stderr
        yield RunningCloud(name, state, port)
    finally:
        done = ucloud("down", "--wipe", "--name", name)
    assert done.returncode == 0, done.stderr
    assert not state.exists(), list(state.rglob("*"))
