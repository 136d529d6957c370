"""Clouds by `ucloud up --hosts 3 --etcd 3` and what `ucloud lab` may do to them. Guests are pretended; networks are real,
unless said otherwise.

Other than plain processes these have a supervisor that restarts what dies, hosts that lose power with all that is on them, and
cables that are cut.
"""

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.boot_sector import DISK
from bench.processes import IMAGE
from tests.conftest import RunningCloud, free_port
from tests.integration.clouds import Breakable, Fault, tracebacks
from tests.leftovers import cloud_name, ucloud
from tests.namespaces import inside
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.daemon import drivers, lab, supervisor
from ucloud.daemon.cloud import ROUTER, Cloud, Daemon, daemon_name, find_cloud
from ucloud.daemon.network import Hands
from ucloud.store.etcd import EtcdStore

C = TypeVar("C", bound="LabCloud")

DEADLINE_S = 120.0
VERBS = ((lab.kill, lab.boot), (lab.cut, lab.heal), (lab.freeze, lab.thaw))
ENDED = re.compile(r"\S+ ended: process \d+, exit [1-9]\d*")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.1)


class LabCloud(RunningCloud):
    def up(self, *options: str) -> str:
        place = ["--name", self.name, "--state", str(self.state_dir), "--port", str(self.port)]
        done = ucloud("up", *place, "--hypervisor", "fake", *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def plan(self) -> Cloud:
        found = find_cloud(self.name)
        assert found
        return found

    @property
    def urls(self) -> list[str]:
        """Through the supervisor, and to each API alone."""
        return [self.url, *(f"unix:{self.plan.api_socket(host)}" for host in self.plan.central_hosts)]

    @property
    def host_ids(self) -> Mapping[str, str]:
        return self.plan.settings.host_ids

    @property
    def pool_dir(self) -> Path:
        return self.plan.pool_dir

    def guests_dir(self, host: str) -> Path:
        return self.plan.host_run_dir(host) / "fake"

    @contextmanager
    def hands(self, host: str) -> Iterator[Hands]:
        with inside(self.plan.namespace(host)):
            yield drivers.network(self.plan.config(host))

    def client(self, patience_s: float = 30.0) -> Client:
        return Client([f"unix:{self.plan.socket}"], patience_s)


@contextmanager
def lab_cloud(letter: str, kind: type[C], *options: str) -> Iterator[C]:
    """Of three hosts, with an image to make VMs of."""
    cloud = kind(cloud_name(letter), Path(tempfile.mkdtemp(prefix="uct-")) / "state", free_port())
    try:
        cloud.up("--hosts", "3", *options)
        with cloud.client() as api, tempfile.NamedTemporaryFile() as file:
            file.write(DISK)
            file.flush()
            _, action = api.upload_image(IMAGE, Path(file.name))
            assert api.wait(action, DEADLINE_S)["state"] == "success"
        yield cloud
    finally:
        done = ucloud("down", "--wipe", "--name", cloud.name)
    assert done.returncode == 0, done.stderr
    cloud.state_dir.parent.rmdir()


@contextmanager
def breakable_lab(letter: str, logs: Path | None = None) -> Iterator[Breakable[LabCloud]]:
    """logs: where they go when something is found."""
    with lab_cloud(letter, LabCloud, "--etcd", "3", "--cpus", "64", "--memory", "64G") as cloud:
        store = EtcdStore(cloud.plan.etcd_endpoints, SystemClock())
        try:
            with keeping_logs(cloud.plan, logs):
                yield Breakable(cloud, store, [*faults(cloud.plan)], lambda: bugs(cloud.plan))
        finally:
            store.close()


@contextmanager
def keeping_logs(plan: Cloud, logs: Path | None) -> Iterator[None]:
    """logs: where the cloud's go when something is found."""
    try:
        yield
    except Exception:
        if logs:
            shutil.copytree(plan.log_dir, logs)
        raise


def faults(plan: Cloud) -> Iterator[Fault]:
    for host in plan.hosts:
        target = lab.find_target(plan, host)
        all_there = frozenset({host, *(daemon.name for daemon in plan.daemons() if daemon.host == host)})
        for begin, end in VERBS:
            yield Fault(begin.__name__, host, partial(lab.act, begin, target), partial(lab.act, end, target), all_there)
        begin, own = partial(lab.act, partial(lab.freeze_only, "host"), target), frozenset({daemon_name("host", host)})
        yield Fault("freeze", daemon_name("host", host), begin, partial(lab.act, lab.thaw, target), own)
    for daemon in plan.daemons():
        yield Fault("kill -9", daemon.name, partial(crash, plan, daemon))
        if daemon.kind not in ("host", ROUTER):
            yield from faults_of(plan, daemon)


def faults_of(plan: Cloud, daemon: Daemon) -> Iterator[Fault]:
    target = lab.find_target(plan, daemon.name)
    for begin, end in VERBS:
        if begin is not lab.cut or daemon.kind == "etcd":
            own = frozenset({daemon.name})
            yield Fault(begin.__name__, daemon.name, partial(lab.act, begin, target), partial(lab.act, end, target), own)


def crash(plan: Cloud, daemon: Daemon) -> None:
    """The supervisor starts it again."""
    for state in supervisor.states(plan):
        if state.name == daemon.name and state.pid:
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)


def bugs(plan: Cloud) -> list[str]:
    """Nothing ends by itself."""
    ended = ENDED.findall((plan.log_dir / "supervisor.log").read_text(errors="replace"))
    return ended + tracebacks({log.stem: log for log in plan.log_dir.glob("*.log")})
