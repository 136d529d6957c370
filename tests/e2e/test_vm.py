"""A VM's life, by the command line and on real guests."""

import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.conftest import RunningCloud
from tests.e2e.conftest import Traces, wait_for
from tests.leftovers import ucloud
from ucloud.client import Client
from ucloud.model.record import decode
from ucloud.model.vm import Manifest, Status
from ucloud.store.etcd import EtcdStore

pytestmark = pytest.mark.usefixtures("clean")


def run(cloud: RunningCloud, *arguments: str, returns: int = 0) -> str:
    done = ucloud("--api", cloud.url, *arguments)
    assert done.returncode == returns, done.stderr
    return done.stdout if returns == 0 else done.stderr


def show(cloud: RunningCloud, vm: str) -> dict:
    return json.loads(run(cloud, "vm", "show", vm, "-o", "json"))


def guest_pid(traces: Traces, vm: str) -> int:
    found = wait_for(lambda: traces.processes(vm), f"the qemu of {vm}")
    assert len(found) == 1, found
    return int(found[0].removeprefix("process "))


def daemon_pid(cloud: RunningCloud, kind: str) -> int:
    """Of api, control, host: its outermost process."""
    wanted = ["daemon", kind, "--config", f"{cloud.state_dir}/run/{kind}-1.toml"]

    def find() -> int | None:
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if command(path)[-4:] == wanted]
        return min(pids, default=None)

    return wait_for(find, f"the {kind} daemon")


def command(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def log_of(api: Client, vm: str) -> str:
    return api.vm_log(vm)[0].decode(errors="replace")


def test_tiny_from_create_to_delete(cloud: RunningCloud, api: Client, traces: Traces, tiny: str) -> None:
    """create, stop, start, reboot, reset, delete; each boot is a boot of the guest; in the end nothing names the VM."""
    said = run(cloud, "vm", "create", "a", "--image", tiny, "--memory", "128M")
    vm = show(cloud, "a")
    assert vm["id"] in said
    assert (vm["phase"], vm["epoch"], vm["boots"], vm["host"]) == ("running", 1, 1, "h1")

    def boots_seen() -> int:
        return log_of(api, "a").count("ucloud tiny: up")

    wait_for(lambda: boots_seen() == 1, "the first boot")
    run(cloud, "vm", "stop", "a")
    assert show(cloud, "a")["phase"] == "stopped"
    assert traces.processes(vm["id"]) == []
    run(cloud, "vm", "start", "a")
    assert show(cloud, "a")["boots"] == 2
    wait_for(lambda: boots_seen() == 2, "the second boot")
    run(cloud, "vm", "reboot", "a")
    wait_for(lambda: boots_seen() == 3, "the third boot")
    run(cloud, "vm", "reset", "a")
    wait_for(lambda: boots_seen() == 4, "the fourth boot")
    wait_for(lambda: f"ucloud-boots={show(cloud, 'a')['boots']}" in log_of(api, "a"), "the guest to know its boot")
    run(cloud, "vm", "delete", "a")
    wait_for(lambda: traces.of(vm["id"]) == [], "nothing left of it, nor its name in the network's DNS")
    assert "there is no vm 'a'" in run(cloud, "vm", "show", "a", returns=1)


def test_a_resized_guest_sees_its_new_size(cloud: RunningCloud, api: Client, traces: Traces, tiny: str) -> None:
    """tiny says what it has when it boots. Its disk is grown after a guest had it."""
    run(cloud, "vm", "create", "g", "--image", tiny, "--memory", "128M", "--disk", "128M")

    def boots() -> list[str]:
        return [boot for boot in log_of(api, "g").split("ucloud tiny: up")[1:] if "ucloud tiny: ready" in boot]

    wait_for(lambda: len(boots()) == 1, "the first boot")
    assert "stop it first: ucloud vm stop g" in run(cloud, "vm", "resize", "g", "--cpus", "2", returns=1)
    run(cloud, "vm", "stop", "g", "--force")
    run(cloud, "vm", "resize", "g", "--cpus", "2", "--memory", "256M", "--disk", "3G")
    run(cloud, "vm", "start", "g")
    wait_for(lambda: len(boots()) == 2, "the second boot")
    before, after = ([int(word) for word in re.findall(r"^(?:cpus|memory|disk vda) (\d+)", boot, re.M)] for boot in boots())
    assert (before[0], before[2]) == (1, 128)
    assert (after[0], after[2]) == (2, 3072)
    assert before[1] < 128 < after[1] < 256, "the kernel takes some for itself"


def test_a_guest_that_powers_itself_off_stays_off(cloud: RunningCloud, api: Client, traces: Traces, tiny: str) -> None:
    """Through a restart of the host daemon too, until it is told to start."""
    run(cloud, "vm", "create", "b", "--image", tiny, "--memory", "128M")
    id = show(cloud, "b")["id"]
    wait_for(lambda: "ucloud tiny: up" in log_of(api, "b"), "the boot")
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(f"{cloud.state_dir}/run/h1/vm/{id}/console")

        def is_off() -> bool:
            with contextlib.suppress(BrokenPipeError):
                console.send(b"poweroff -f\n")
            return not traces.processes(id)

        wait_for(is_off, "the guest to power itself off")
    wait_for(lambda: show(cloud, "b")["phase"] == "stopped", "its host to say so")
    assert show(cloud, "b")["power"] == "on"
    os.kill(daemon_pid(cloud, "host"), signal.SIGKILL)
    host = api.host("h1")["id"]
    wait_for(lambda: api.host(host)["state"] == "up", "the host daemon back")
    assert show(cloud, "b")["phase"] == "stopped"
    assert traces.processes(id) == []
    run(cloud, "vm", "start", "b")
    assert show(cloud, "b")["boots"] == 2
    assert guest_pid(traces, id)


def test_guests_survive_a_killed_host_daemon(cloud: RunningCloud, api: Client, traces: Traces, obedient: str) -> None:
    run(cloud, "vm", "create", "c", "--image", obedient, "--memory", "64M")
    id = show(cloud, "c")["id"]
    before, daemon = guest_pid(traces, id), daemon_pid(cloud, "host")
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: daemon_pid(cloud, "host") != daemon, "a new daemon")
    run(cloud, "vm", "stop", "c")  # the new daemon does what it is told
    assert traces.processes(id) == []
    assert before
    run(cloud, "vm", "delete", "c")
    wait_for(lambda: traces.of(id) == [], "nothing left of it, nor its name in the network's DNS")


def test_a_guest_that_crashes_runs_again(
    cloud: RunningCloud, api: Client, traces: Traces, obedient: str, store: EtcdStore
) -> None:
    run(cloud, "vm", "create", "d", "--image", obedient, "--memory", "64M")
    vm = show(cloud, "d")
    before = guest_pid(traces, vm["id"])
    os.kill(before, signal.SIGKILL)

    def crashes() -> int:
        item = store.get(Status.at(vm["host_id"], "vm", vm["id"]))
        return decode(Status, item.value)[0].crashes if item else 0

    wait_for(lambda: crashes() == 1 and show(cloud, "d")["phase"] == "running", "the guest to run again")
    assert guest_pid(traces, vm["id"]) != before


def test_a_guest_without_manifest_is_killed_and_its_disk_kept(
    cloud: RunningCloud, api: Client, traces: Traces, obedient: str, store: EtcdStore
) -> None:
    run(cloud, "vm", "create", "e", "--image", obedient, "--memory", "64M")
    vm = show(cloud, "e")
    manifest = store.get(Manifest.at(vm["host_id"], vm["id"]))
    assert manifest
    records = [f"vm/{vm['id']}", f"placement/{vm['id']}", manifest.key]
    values = {key: item.value for key in records if (item := store.get(key))}
    store.commit(deletes=records)
    wait_for(lambda: not traces.processes(vm["id"]), "the guest killed")
    inventory = f"status/{vm['host_id']}/inventory"
    wait_for(lambda: vm["id"].encode() in store.get(inventory).value, "the inventory to report it")
    assert list((cloud.state_dir / "pool" / "disks").rglob("*.qcow2")), "the disk is kept"
    store.commit(values)  # somebody repairs it: the VM comes back, and can be deleted in order
    wait_for(lambda: show(cloud, "e")["phase"] == "running", "the VM to run again")
    run(cloud, "vm", "delete", "e")
    wait_for(lambda: traces.of(vm["id"]) == [], "nothing left of it, nor of the report that it was a stray")


def test_the_guest_is_confined(cloud: RunningCloud, traces: Traces, obedient: str) -> None:
    """Its own user without groups and capabilities, no new privileges, seccomp on, no network but its own empty one, a control
    group where there are any."""
    run(cloud, "vm", "create", "f", "--image", obedient, "--memory", "64M")
    pid = guest_pid(traces, show(cloud, "f")["id"])
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert {int(uid) >> 28 for uid in status["Uid"].split()} == {7}
    assert status["Groups"].strip() == ""
    assert status["CapEff"] == status["CapPrm"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert "ucloud" in Path(f"/proc/{pid}/cgroup").read_text()
    interfaces = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"], "it shares no network with etcd and the daemons"
