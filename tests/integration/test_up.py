"""A cloud on one machine: it comes up, is repaired whatever was killed, says what is wrong, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningCloud, free_port
from tests.integration.lab_cloud import DEADLINE_S, wait_until
from tests.leftovers import cloud_name, ucloud

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DAEMONS = ["router", "etcd-1", "api-1", "control-1", "metadata-1", "deadman-1", "lease-1", "host-1"]


@pytest.fixture(scope="module")
def own() -> Iterator[RunningCloud]:
    """A cloud to do bad things to, without guests; down at first."""
    cloud = RunningCloud(cloud_name("u"), Path(tempfile.mkdtemp(prefix="uct-")) / "state", free_port())
    yield cloud
    ucloud("down", "--wipe", "--name", cloud.name)
    cloud.state_dir.parent.rmdir()


@pytest.fixture
def running(own: RunningCloud) -> RunningCloud:
    up(own)
    return own


def up(cloud: RunningCloud, *options: str) -> subprocess.CompletedProcess[str]:
    place = ["--name", cloud.name, "--state", str(cloud.state_dir), "--port", str(cloud.port)]
    done = ucloud("up", *place, "--hypervisor", "fake", "--network", "fake", *options)
    assert done.returncode == 0, done.stderr
    return done


def daemons(cloud: RunningCloud) -> dict[str, dict[str, Any]]:
    return {daemon["name"]: daemon for daemon in cloud.status()["daemons"]}


def supervisor(cloud: RunningCloud) -> int:
    """Every daemon's parent."""
    [parent] = {
        Path(f"/proc/{daemon['pid']}/stat").read_text().split()[3] for daemon in daemons(cloud).values() if daemon["pid"]
    }
    return int(parent)


def traces(cloud: RunningCloud) -> list[str]:
    """Whatever of this machine names the cloud, or its directory."""
    signs = (cloud.name, str(cloud.state_dir))
    command_lines = [file.read_bytes().decode(errors="replace") for file in safe_glob("/proc", "[0-9]*/cmdline")]
    found = [line for line in command_lines if any(sign in line for sign in signs) and "pytest" not in line]
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    texts = [*links.splitlines(), *spaces.splitlines(), *Path("/proc/self/mounts").read_text().splitlines()]
    found += [text for text in texts if any(sign in text for sign in signs)]
    places = [*Path("/var/lib").glob("ucloud*"), *Path("/run").glob("ucloud*"), *Path("/run/netns").glob("*")]
    found += [str(path) for path in places if cloud.name in path.name]
    return found + [str(path) for path in cloud.state_dir.parent.iterdir()]


def safe_glob(directory: str, pattern: str) -> Iterator[Path]:
    """Of files that come and go."""
    for file in Path(directory).glob(pattern):
        try:
            file.read_bytes()
        except OSError:
            continue
        yield file


def test_up_makes_what_status_tells(running: RunningCloud) -> None:
    told = running.status()
    assert told["api"] == running.url
    assert told["apis"] == [running.url]
    assert told["web"] is None
    assert {name for name, daemon in daemons(running).items() if daemon["pid"]} == set(DAEMONS)
    [endpoint] = told["etcd"]["endpoints"]
    assert told["etcd"] == {"endpoints": [endpoint], "ca": None, "cert": None, "key": None}
    assert [(host["name"], host["state"]) for host in told["hosts"]] == [("h1", "up")]
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"{running.name}-h1" in spaces
    assert {f"{running.name}-underlay", f"{running.name}-router"} <= set(spaces.split())
    table = ucloud("status", "--name", running.name)
    assert running.url in table.stdout
    assert table.returncode == 0
    assert [pool["name"] for pool in running.client().pools()] == ["default"]


def test_the_api_is_forwarded_and_its_socket_is_closed_to_others(running: RunningCloud) -> None:
    with socket.create_connection(("::1", running.port), timeout=DEADLINE_S) as connection:
        connection.sendall(b"GET /v1/hosts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["hosts"][0]["name"] == "h1"
    assert (running.state_dir / "run" / "api.sock").stat().st_mode & 0o777 == 0o600


def test_up_again_changes_nothing(running: RunningCloud) -> None:
    before = {name: daemon["pid"] for name, daemon in daemons(running).items()}
    up(running)
    done = ucloud("up", "--name", running.name)
    assert done.returncode == 0, done.stderr
    assert {name: daemon["pid"] for name, daemon in daemons(running).items()} == before
    assert len(list(running.client().hosts())) == 1


def test_other_settings_are_refused_while_it_runs(running: RunningCloud) -> None:
    done = ucloud("up", "--name", running.name, "--port", str(free_port()))
    assert done.returncode == 1
    assert f"running with --port {running.port}" in done.stderr
    elsewhere = ucloud("up", "--name", running.name, "--state", f"{running.state_dir}-other")
    assert elsewhere.returncode == 1
    assert str(running.state_dir) in elsewhere.stderr
    renamed = ucloud("up", "--name", cloud_name("x"), "--state", str(running.state_dir))
    assert renamed.returncode == 1
    assert f"holds the state of the cloud {running.name}" in renamed.stderr


@pytest.mark.parametrize("name", DAEMONS)
def test_a_killed_daemon_is_started_again(running: RunningCloud, name: str) -> None:
    wait_until(lambda: daemons(running)[name]["pid"] > 0, f"{name} runs")
    before = daemons(running)[name]
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: daemons(running)[name]["pid"] not in (0, before["pid"]), f"{name} runs again")
    assert daemons(running)[name]["restarts"] > before["restarts"]
    wait_until(lambda: running.status()["hosts"][0]["state"] == "up", "h1 is up")


def test_up_repairs_what_a_killed_supervisor_leaves(running: RunningCloud) -> None:
    host = running.client().host("h1")["id"]
    old = supervisor(running)
    os.kill(old, signal.SIGKILL)
    up(running)
    assert supervisor(running) != old
    assert running.client().host("h1")["id"] == host


def test_up_repairs_the_network(running: RunningCloud) -> None:
    for space in ("h1", "router"):
        subprocess.run(["ip", "netns", "delete", f"{running.name}-{space}"], check=True)
    subprocess.run(["ip", "link", "delete", f"{running.name}-link"], check=True)
    up(running)
    endpoint = running.status()["etcd"]["endpoints"][0]
    address, _, port = endpoint.removeprefix("http://").rpartition(":")
    socket.create_connection((address.strip("[]"), int(port)), timeout=DEADLINE_S).close()


def test_up_after_a_power_cut(running: RunningCloud) -> None:
    """Of the machine only the disk is left."""
    host = running.client().host("h1")["id"]
    for pid in (supervisor(running), *(daemon["pid"] for daemon in daemons(running).values())):
        os.kill(pid, signal.SIGKILL)
    for space in ("h1", "router", "underlay"):
        subprocess.run(["ip", "netns", "delete", f"{running.name}-{space}"], check=True)
    shutil.rmtree(running.state_dir / "run")
    up(running)
    assert running.client().host("h1")["id"] == host


def test_a_port_that_is_taken_is_named_and_nothing_is_left(own: RunningCloud) -> None:
    ucloud("down", "--wipe", "--name", own.name)
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ucloud("up", "--name", own.name, "--state", str(own.state_dir), "--port", str(port))
    assert done.returncode == 1
    assert f"port {port} of [::1] is taken by process {os.getpid()}" in done.stderr
    assert traces(own) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--hosts", "0"], "--hosts"),
        (["--hosts", "10"], "--hosts"),
        (["--etcd", "2"], "--etcd"),
        (["--hosts", "2", "--etcd", "3"], "--etcd 3"),
        (["--memory", "much"], "--memory"),
        (["--name", "../x"], "--name ../x"),
        (["--name", "x" * 300], "--name xxx"),
        (["--name", "/etc"], "--name /etc"),
        (["--state", "/tmp/" + "x" * 90], "too long"),
        (["--state", "/etc"], "/etc holds something that is not a cloud"),
        (["--port", "0"], "--port"),
        (["--accel", "magic"], "--accel"),
    ],
)
def test_bad_options_are_refused_in_words(own: RunningCloud, options: list[str], complaint: str) -> None:
    ucloud("down", "--wipe", "--name", own.name)
    done = ucloud("up", "--name", own.name, *options)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert traces(own) == []


def test_a_cloud_that_is_not_there_is_said_to_be_none() -> None:
    status, down = ucloud("status", "--name", "uc-none"), ucloud("down", "--name", "uc-none")
    assert (status.returncode, down.returncode) == (1, 0)
    assert "`ucloud up --name uc-none` makes one" in status.stderr
    assert "nothing of it is left" in down.stderr


def test_bad_settings_of_a_daemon_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "ucloud.toml"
    file.write_text("[control]\nttl_s = -5\n")
    done = ucloud("daemon", "control", "--config", str(file))
    assert done.returncode == 1
    assert done.stderr.startswith(f"ucloud: {file}:2: [control] ttl_s")


def test_down_keeps_the_state_and_wipe_leaves_nothing(running: RunningCloud) -> None:
    host = running.client().host("h1")["id"]
    down = ucloud("down", "--name", running.name)
    assert down.returncode == 0, down.stderr
    status = ucloud("status", "--name", running.name)
    assert status.returncode == 1
    assert "does not answer" in status.stdout
    up(running)
    assert running.client().host("h1")["id"] == host
    wipe = ucloud("down", "--wipe", "--name", running.name)
    assert wipe.returncode == 0, wipe.stderr
    assert traces(running) == []
    again = ucloud("down", "--wipe", "--name", running.name)
    assert again.returncode == 0, again.stderr


def test_a_cloud_grows_and_does_not_shrink(own: RunningCloud) -> None:
    """What runs is left alone, but for the host daemon, whose share of the memory is smaller now."""
    ucloud("down", "--wipe", "--name", own.name)
    up(own)
    before = {name: daemon["pid"] for name, daemon in daemons(own).items()}
    alone_mib = own.client().host("h1")["memory_mib"]
    up(own, "--hosts", "2")
    wait_until(lambda: own.client().host("h1")["memory_mib"] <= alone_mib / 2, "h1 says what it has now")
    assert [(host["name"], host["state"]) for host in own.status()["hosts"]] == [("h1", "up"), ("h2", "up")]
    after = {name: daemon["pid"] for name, daemon in daemons(own).items()}
    assert {name: pid for name, pid in before.items() if name != "host-1"}.items() <= after.items()
    assert set(after) - set(before) == {"api-2", "control-2", "metadata-2", "deadman-2", "lease-2", "host-2"}
    up(own)
    assert len(own.status()["hosts"]) == 2
    for option, words in ((["--hosts", "1"], "has 2 hosts"), (["--etcd", "3"], "was made with --etcd 1")):
        done = ucloud("up", "--name", own.name, *option)
        assert done.returncode == 1
        assert words in done.stderr
