"""Guests that know who they are and let their owner in: on every host of three, by the command line and OpenSSH's client."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import wait_for
from tests.e2e.person import Person
from tests.e2e.wide import Wide
from ucloud.client import Client

SCRIPT = '#!/bin/sh\necho "user data of $(hostname)" | tr a-z A-Z\nexit 7\n'


@pytest.fixture(scope="module")
def owner(wide: Wide, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("home"), wide.url)


@pytest.fixture(scope="module")
def mine(owner: Person, vms: dict[str, str]) -> Path:
    """The private key for all VMs."""
    return owner.home / "mine"


@pytest.fixture(scope="module")
def vms(wide: Wide, wide_api: Client, owner: Person) -> Iterator[dict[str, str]]:
    """The id of the VM on each host, by its name, web-h1 and so on."""
    owner.new_key("mine")
    (script := owner.home / "script").write_text(SCRIPT)
    told = ("--image", "tiny", "--memory", "128M", "--key", "mine", "--user-data", str(script))
    made = {}
    for host in wide.plan.hosts:
        name = owner.does("vm", "create", f"web-{host}", *told, "--host", host, "--no-wait", "-o", "name").strip()
        made[name] = wide_api.vm(name)["id"]
    yield made
    owner.does("vm", "delete", *made)
    for key in list(wide_api.keys()):
        wide_api.delete_key(key["id"])


@pytest.mark.parametrize("host", ["h1", "h2", "h3"])
def test_the_owner_logs_in_to_a_vm_on_each_host(owner: Person, vms: dict[str, str], mine: Path, host: str) -> None:
    name = f"web-{host}"
    done = owner.ssh(name, mine, "hostname; echo problem >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, f"{name}\n"), done.stderr
    assert "has reported no host keys" not in done.stderr
    assert "Permanently added" not in done.stderr
    assert done.stderr.endswith("problem\n")
    known = owner.home / ".local" / "state" / "ucloud" / "hostkeys" / vms[name]
    assert known.read_text().startswith(f"{vms[name]} ssh-ed25519 ")


@pytest.mark.parametrize("host", ["h1", "h2", "h3"])
def test_user_data_ran_once(wide_api: Client, vms: dict[str, str], host: str) -> None:
    name = f"web-{host}"
    wait_for(lambda: b"user data ended with 7" in wide_api.vm_log(name)[0], "the user data to end")
    assert wide_api.vm_log(name)[0].count(f"USER DATA OF {name.upper()}".encode()) == 1


def test_input_goes_in_and_bytes_come_back(owner: Person, vms: dict[str, str], mine: Path) -> None:
    words = ["--api", owner.api, "vm", "ssh", "web-h1", "--identity", str(mine), "--", "cat"]
    data = bytes(range(256)) * 400
    environment = {"PATH": os.environ["PATH"], "HOME": str(owner.home)}
    command = [sys.executable, "-m", "ucloud.daemon.main", *words]
    done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=300, check=False)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


def test_keys_come_and_go_while_the_guest_runs(owner: Person, vms: dict[str, str], mine: Path) -> None:
    other = owner.new_key("other")
    refused = owner.ssh("web-h1", other, "true")
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr
    owner.does("vm", "set", "web-h1", "--key", "other")
    wait_for(lambda: owner.ssh("web-h1", other, "true").returncode == 0, "the guest to know of the other key")
    owner.does("vm", "set", "web-h1", "--no-key", "other")
    wait_for(lambda: owner.ssh("web-h1", other, "true").returncode == 255, "the guest to forget the other key")
    assert owner.ssh("web-h1", mine, "true").returncode == 0


def test_who_answers_in_its_place_is_refused(owner: Person, vms: dict[str, str], mine: Path, wide_api: Client) -> None:
    """Whoever has the private part of another host key: here the VM itself, whose log tells of another one."""
    forged = f"-----BEGIN SSH HOST KEY KEYS-----\n{(owner.home / 'mine.pub').read_text()}-----END SSH HOST KEY KEYS-----\n"
    assert owner.ssh("web-h2", mine, f"printf '%s' '{forged}' >/dev/console").returncode == 0
    wait_for(lambda: wide_api.vm_log("web-h2")[0].count(b"END SSH HOST KEY KEYS") == 2, "the log to have it")
    refused = owner.ssh("web-h2", mine, "true")
    assert refused.returncode == 255
    assert "has another host key than web-h2 reported on its serial line" in refused.stderr


def test_after_a_reboot_the_owner_logs_in_all_the_same(owner: Person, vms: dict[str, str], mine: Path) -> None:
    """Whether the guest has new host keys or its old ones."""
    owner.does("vm", "reset", "web-h3")
    done = owner.ssh("web-h3", mine, "hostname")
    assert (done.returncode, done.stdout) == (0, "web-h3\n"), done.stderr


def test_a_private_network_leads_to_the_service_by_ipv4(owner: Person, vms: dict[str, str], mine: Path) -> None:
    """Which is not the way to anywhere else."""
    owner.does("network", "create", "office", "--ipv4", "10.1.0.0/24")
    owner.does("vm", "attach", "web-h1", "office")
    asking = "wget -q -O - http://169.254.169.254/latest/meta-data/instance-id; ip route | grep default"
    wait_for(lambda: owner.ssh("web-h1", mine, asking).stdout == vms["web-h1"], "the guest to ask over the new network")
    owner.does("vm", "detach", "web-h1", "office")
    owner.does("network", "delete", "office")
