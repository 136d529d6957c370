"""Machines join a cloud, carry VMs, are lost, come back, are removed; and what is refused says what to do.

A cloud of one host by `ucloud up`, whose pool is made one that hosts share, and machines beside it that run the real commands;
guests and their networks are pretended.
"""

import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.boot_sector import DISK
from bench.machine import Machine, listening, machine
from bench.processes import IMAGE
from tests.integration.lab_cloud import DEADLINE_S, LabCloud, lab_cloud, wait_until
from tests.leftovers import ucloud
from ucloud.base.clock import SystemClock
from ucloud.model.host import JoinToken
from ucloud.model.record import encode
from ucloud.store.etcd import EtcdStore

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


class Site:
    """The cloud, and what operators type; `url` is that of an API for other machines."""

    def __init__(self, cloud: LabCloud, url: str, directory: Path) -> None:
        self.cloud, self.url, self.directory = cloud, url, directory
        self.plan = cloud.plan

    def token(self, name: str) -> str:
        """By the line that `host add` prints."""
        program, noun, verb, url, token = self.typed("host", "add", name).split()
        assert (program, noun, verb, url) == ("ucloud", "host", "join", self.url)
        return token

    def typed(self, *arguments: str) -> str:
        done = ucloud("--api", self.url, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        done = ucloud("--api", self.url, *arguments)
        assert done.returncode == 1
        return done.stderr

    def hosts(self) -> dict[str, dict[str, Any]]:
        with self.cloud.client() as api:
            return {host["name"]: host for host in api.hosts()}

    def state(self, host: str) -> str:
        return str(self.hosts()[host]["state"])

    def is_silent(self, host: str) -> bool:
        """Not always declared dead: too many hosts go here within a minute."""
        return self.state(host) in ("down", "fenced")

    def create(self, host: str, image: str = IMAGE) -> dict[str, Any]:
        """A VM that runs on `host`, though it need not."""
        with self.cloud.client() as api:
            others = [other for other in self.hosts() if other != host]
            for other in others:
                api.set_host(other, enabled=False)
            vm, action = api.create_vm(f"vm-{os.urandom(4).hex()}", image, memory_mib=16)
            assert api.wait(action, DEADLINE_S)["state"] == "success"
            for other in others:
                api.set_host(other, enabled=True)
        vm = self.vm(vm)
        assert vm["host"] == host
        return vm

    def vm(self, vm: dict[str, Any]) -> dict[str, Any]:
        with self.cloud.client() as api:
            return api.vm(vm["id"])

    def delete(self, *vms: dict[str, Any]) -> None:
        with self.cloud.client() as api:
            for vm in vms:
                assert api.wait(api.delete_vm(vm["id"]), DEADLINE_S)["state"] == "success"

    def store(self) -> closing[EtcdStore]:
        return closing(EtcdStore(self.plan.etcd_endpoints, SystemClock()))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        lab_cloud("j", LabCloud, "--network", "fake", "--hosts", "1") as cloud,
        tempfile.TemporaryDirectory(prefix="uct-") as name,
        listening(cloud.plan, Path(name)) as url,
        cloud.client() as api,
    ):
        directory = Path(name)
        directory.chmod(0o711)  # images are examined by a user without rights
        api.set_pool("default", shared=True, fence="same-kernel")
        wait_until(lambda: ucloud("--api", url, "host", "list").returncode == 0, "the API for other machines answers")
        yield Site(cloud, url, directory)


@pytest.fixture
def edge(site: Site) -> Iterator[Machine]:
    """Of the cloud nothing is left of it afterwards."""
    with site.cloud.client() as api:
        with machine(site.plan, 7, site.directory) as found:
            yield found
            site.delete(*api.vms())
        for host in site.hosts().keys() - {"h1"}:
            wait_until(lambda host=host: site.is_silent(host), f"{host} is silent")  # type: ignore[misc]
            site.typed("host", "remove", host)


@pytest.fixture
def spare(site: Site) -> Iterator[Machine]:
    with machine(site.plan, 8, site.directory) as found:
        yield found


def joined(machine: Machine, site: Site, name: str, *options: str) -> None:
    done = machine.join(site.url, site.token(name), *options)
    assert (done.returncode, done.stdout) == (0, f"{name} is up\n"), done.stderr


def refused(machine: Machine, url: str, token: str, *options: str) -> str:
    done = machine.join(url, token, *options)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_host_is_lost_and_comes_back(site: Site, edge: Machine) -> None:
    joined(edge, site, "edge")
    shared, local = site.create("edge"), site.create("edge", local_image(site))
    edge.cut()
    wait_until(lambda: site.state("edge") == "fenced", "edge is declared dead")
    wait_until(lambda: runs_on(site, shared, "h1"), "the VM whose disk is shared runs elsewhere")
    assert site.vm(shared)["epoch"] > shared["epoch"]
    said = site.refused("host", "remove", "edge")
    assert f"edge has VMs: {local['name']};" in said
    assert "ucloud host remove edge --lost" in said
    assert site.typed("host", "remove", "edge", "--lost") == "edge is removed\n"
    shown = site.vm(local)
    assert (shown["phase"], shown["host"]) == ("failed", "")
    assert "its disk was lost with edge, which alone had it (pool local)" in shown["reason"]
    assert edge.guests(), "nobody has told it yet"

    edge.heal()
    wait_until(lambda: edge.guests() == [], "what was removed runs nothing")
    wait_until(lambda: "this host was removed from the cloud" in edge.log("host"), "it says why")
    assert set(site.hosts()) == {"h1"}
    assert runs_on(site, shared, "h1")
    with site.store() as store:
        assert not store.list(f"status/{edge.settings.host.id}/").items, "it says no more of itself"

    said = refused(edge, site.url, site.token("edge"), "--force")
    stop = re.search(r"stop that first: kill (\d+)\n", said)
    assert stop, said
    assert "node" in Path(f"/proc/{stop[1]}/cmdline").read_text().split("\0")
    edge.stop_daemons()
    joined(edge, site, "edge", "--force")


def local_image(site: Site) -> str:
    """In a pool that is not shared."""
    with site.cloud.client() as api, tempfile.NamedTemporaryFile() as file:
        (site.directory / "local").mkdir()
        api.create_pool("local", str(site.directory / "local"))
        file.write(DISK + bytes(512))  # not the image that there is
        file.flush()
        _, action = api.upload_image("local", Path(file.name), "local")
        done = api.wait(action, DEADLINE_S)
        assert done["state"] == "success", done
    return "local"


def runs_on(site: Site, vm: dict[str, Any], host: str) -> bool:
    shown = site.vm(vm)
    return (shown["host"], shown["phase"]) == (host, "running")


def test_a_machine_joins_carries_vms_leaves_and_joins_again(site: Site, edge: Machine) -> None:
    joined(edge, site, "edge")
    first = site.hosts()["edge"]
    assert (first["state"], first["id"]) == ("up", edge.settings.host.id)
    assert edge.settings.network == site.plan.network
    vm = site.create("edge")
    assert edge.guests() == [vm["id"]]

    assert "makes this machine the host edge" in refused(edge, site.url, site.token("other"))
    assert "edge is alive: ucloud host disable edge" in site.refused("host", "remove", "edge")
    site.typed("host", "disable", "edge")
    assert site.state("edge") == "disabled"
    with site.cloud.client() as api:
        other, action = api.create_vm("other", IMAGE, memory_mib=16)
        assert api.wait(action, DEADLINE_S)["state"] == "success"
    assert site.vm(other)["host"] == "h1"
    edge.kill("host")
    site.delete(vm)
    assert edge.guests() == [], "the daemon was started again"

    edge.stop_daemons()
    wait_until(lambda: site.is_silent("edge"), "edge is silent")
    assert site.typed("host", "remove", "edge") == "edge is removed\n"
    assert set(site.hosts()) == {"h1"}
    with site.store() as store:
        left = [item.key for item in store.list("").items if first["id"] in item.key and not item.key.startswith("event/")]
    assert left == []

    joined(edge, site, "edge", "--force")
    assert site.hosts()["edge"]["id"] == edge.settings.host.id != first["id"]
    vm = site.create("edge")
    assert edge.guests() == [vm["id"]]


def test_what_is_refused_says_what_to_do_and_makes_no_host(site: Site, edge: Machine, spare: Machine) -> None:
    first, second = site.token("edge"), site.token("edge")
    for token in ("foreign", first[:-1], f"{first}x"):
        said = refused(edge, site.url, token)
        assert "is not one of this cloud, or was used already" in said
        assert "ucloud host add NAME" in said
    with site.store() as store:
        name, past = sha256(b"old").hexdigest(), "2020-01-01T00:00:00.000Z"
        record = JoinToken(sha256=name, name="edge", created=past, expires=past)
        store.commit({record.key: encode(record)})
        said = refused(edge, site.url, "old")
        store.commit({}, [record.key])
    assert f"was good until {past}; ask for another: ucloud host add edge" in said
    assert "is not on the hosts' own network" in refused(edge, site.url, first, "--address", "::1")
    assert "not an IPv6 address of this machine" in refused(edge, site.url, first, "--address", "fd00:beef::1")
    assert "the URL that `ucloud host add` has printed" in refused(edge, "edge.example", first)
    assert "the URL that `ucloud host add` has printed" in refused(edge, site.url.replace("8642", "8643"), first)
    assert "what answers there is no ucloud API" in refused(edge, site.plan.etcd_endpoints[0], first)
    assert set(site.hosts()) == {"h1"}
    assert not edge.file.exists()

    done = edge.join(site.url, first)
    assert done.returncode == 0, f"what was refused has used no token: {done.stderr}"
    assert "used already" in refused(spare, site.url, first)
    assert "there is a host named edge already" in refused(spare, site.url, second)
    assert "there is a host named edge already" in site.refused("host", "add", "edge")
    assert not spare.file.exists()
    assert site.state("edge") == "up"


class Between(BaseHTTPRequestHandler):
    """Passes on what is asked of an API, which `server` knows."""

    server: "DyingApi"

    def do_GET(self) -> None:
        self.pass_on(b"")

    def do_POST(self) -> None:
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body: bytes) -> None:
        headers = {name: self.headers[name] for name in ("Content-Type", "Idempotency-Key") if name in self.headers}
        url = f"{self.server.url}{self.path}"
        answer = httpx.request(self.command, url, content=body, headers=headers, timeout=DEADLINE_S, trust_env=False)
        if self.command == "POST" and self.server.dies():
            return
        self.send_response(answer.status_code)
        for name in ("Content-Type", "X-Request-Id"):
            self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


class DyingApi(ThreadingHTTPServer):
    """One that carries out what it is asked, and twice does not tell: first it hangs, then it breaks off."""

    address_family = socket.AF_INET6

    def __init__(self, address: str, url: str) -> None:
        super().__init__((address, 0), Between)
        self.url, self.own_url = url, f"http://[{address}]:{self.server_port}"
        self.asked, self.over = threading.Semaphore(0), threading.Event()
        self._faults = iter((lambda: self.over.wait(DEADLINE_S), lambda: True))

    def dies(self) -> bool:
        fault = next(self._faults, None)
        if fault:
            self.asked.release()
            fault()
        return fault is not None


@contextmanager
def dying_api(site: Site) -> Iterator[DyingApi]:
    """On this machine, which hosts reach."""
    with DyingApi(f"{site.plan.link_subnet[2]}", site.url) as api:
        thread = threading.Thread(target=api.serve_forever, name="dying API")
        thread.start()
        try:
            yield api
        finally:
            api.over.set()
            api.shutdown()
            thread.join()


def test_a_machine_that_got_no_answer_goes_on_with_its_token_and_no_other_does(
    site: Site, edge: Machine, spare: Machine
) -> None:
    token = site.token("edge")
    with dying_api(site) as api:
        first = edge.start_join(api.own_url, token)
        assert api.asked.acquire(timeout=DEADLINE_S)
        first.kill()
        first.communicate()
        made = site.hosts()["edge"]
        assert made["state"] == "down"
        assert "used already" in refused(spare, site.url, token)
        done = edge.join(api.own_url, token)
        assert done.returncode == 0, done.stderr
        assert api.asked.acquire(blocking=False), "its answer was lost once more"
    assert site.hosts()["edge"]["id"] == edge.settings.host.id == made["id"]
    assert site.state("edge") == "up"
    assert "makes this machine the host edge" in refused(edge, site.url, token), "now that it is one"
