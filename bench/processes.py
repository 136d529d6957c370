"""A cloud of plain processes on the loopback of this machine: etcd members, API, control and host daemons with the fake
hypervisor, each started as in production. For benchmarks and for tests that kill, freeze and restart them one by one.

No namespaces and nobody who restarts what ends: that is up to the caller. All of it ends with the process that made it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from bench.boot_sector import DISK
from bench.cloud import wait_for
from tests.contract.etcd_cluster import EtcdCluster, free_ports
from ucloud.base import config
from ucloud.base.clock import SystemClock, timestamp
from ucloud.base.errors import Temporary
from ucloud.client import Client
from ucloud.daemon import drivers
from ucloud.daemon.network import Hands, fake_hands
from ucloud.driver.things import FakeThings
from ucloud.driver.things_file import things_in
from ucloud.model.image import Pool
from ucloud.model.record import encode
from ucloud.store.etcd import EtcdStore

ETCD_OPTIONS = {"heartbeat-interval": 100, "election-timeout": 1000}  # as `ucloud up` has them
CPUS, MEMORY_MIB, HOST_TTL_S = 64, 262_144, 6.0
IMAGE = "sector"
PUBLIC = "fd00:0:1::/48"


class Process:
    """One daemon, through all its restarts. It and what it forks are a process group of their own."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.log = name, log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} was never started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", *self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment()
            )

    def kill(self) -> None:
        """The whole group at once, whether it is frozen or not."""
        if self._process:
            if self.group():
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            wait_for(lambda: not self.group(), f"the end of {self.name}")

    def stop(self) -> None:
        """In order, as on SIGTERM."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=60)

    def freeze(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def group(self) -> list[int]:
        """The processes in it that are not dead."""
        return [pid for pid, fields in stats() if fields[2] == str(self.pid) and fields[0] != "Z"]

    def cpu_s(self) -> float:
        """User and system time of the whole group, and of the children that it has reaped."""
        ticks = sum(sum(map(int, fields[11:15])) for _, fields in stats() if fields[2] == str(self.pid))
        return ticks / os.sysconf("SC_CLK_TCK")


class PlainCloud:
    """`daemons` by name: api-1, control-1, host-1, … pool: `fake` (disks are empty files) or `directory` (real ones)."""

    def __init__(
        self,
        directory: Path,
        *,
        hosts: int,
        apis: int = 1,
        controls: int = 1,
        pool: Literal["fake", "directory"] = "fake",
        fsync: bool = True,
        log_level: Literal["info", "warning"] = "warning",
        quota_bytes: int = 4 << 30,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self._pool, self._log_level = directory, pool, log_level
        self.daemons: dict[str, Process] = {}
        self.host_ttl_s = HOST_TTL_S
        self.host_ids: dict[str, str] = {}
        self.etcd = EtcdCluster(directory, 3, options=ETCD_OPTIONS | {"quota-backend-bytes": quota_bytes}, fsync=fsync)
        self.endpoints = list(self.etcd.endpoints)  # that the daemons know: a test may put something between
        self.control_ttl_s = config.Control().ttl_s  # of daemons that are added from now on
        self._ports = free_ports(apis)
        self.urls = [f"http://[::1]:{port}" for port in self._ports]
        self._counts = {"api": apis, "control": controls, "host": hosts}

    @property
    def pool_dir(self) -> Path:
        return self.directory / "pool"

    def up(self) -> None:
        """All daemons run, all hosts are known and alive, and there is an image to make VMs of."""
        for kind in ("api", "control"):
            for number in range(1, self._counts[kind] + 1):
                self.add(kind, number)
        for endpoint in self.etcd.endpoints:
            wait_for(partial(answers, endpoint), f"the member of etcd at {endpoint}", pause_s=0.1)
        with self.client() as client, self.store() as store:
            wait_for(client.is_ready, "the API", pause_s=0.2)
            pool = Pool(name="local", kind=self._pool, path=str(self.pool_dir), created=timestamp(SystemClock().now_s()))
            drivers.pool(pool).prepare()
            store.commit({pool.key: encode(pool)})
            for number in range(1, self._counts["host"] + 1):
                self.host_ids[f"host-{number}"] = client.create_host(f"h{number}")["id"]
                for kind in ("lease", "host"):
                    self.add(kind, number)
            wait_for(lambda: any(client.pools()), "the pool, which the API did not make itself", pause_s=0.1)
            self._upload(client)
            hosts = self._counts["host"]
            wait_for(lambda: sum(host["state"] == "up" for host in client.hosts()) == hosts, "the hosts", pause_s=0.5)

    def down(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()
        self.etcd.stop()

    def kill(self, name: str) -> None:
        """A daemon, or a member of etcd: etcd-1 is the first."""
        if name.startswith("etcd-"):
            self.etcd.kill(int(name[5:]) - 1)
        else:
            self.daemons[name].kill()

    def start(self, name: str) -> None:
        if name.startswith("etcd-"):
            self.etcd.start(int(name[5:]) - 1)
        else:
            self.daemons[name].start()

    def freeze(self, name: str) -> None:
        if name.startswith("etcd-"):
            self.etcd.freeze(int(name[5:]) - 1)
        else:
            self.daemons[name].freeze()

    def thaw(self, name: str) -> None:
        if name.startswith("etcd-"):
            self.etcd.thaw(int(name[5:]) - 1)
        else:
            self.daemons[name].thaw()

    def client(self, patience_s: float = 30.0) -> Client:
        return Client(self.urls, patience_s)

    @contextmanager
    def store(self) -> Iterator[EtcdStore]:
        store = EtcdStore(self.etcd.endpoints, SystemClock())
        try:
            yield store
        finally:
            store.close()

    def kind(self, kind: str) -> list[Process]:
        return [daemon for name, daemon in self.daemons.items() if name.startswith(f"{kind}-")]

    def guests_dir(self, host: str) -> Path:
        """Where the fake hypervisor of this host (host-1) keeps its guests."""
        return self.directory / host / "run" / "fake"

    @contextmanager
    def hands(self, host: str) -> Iterator[Hands]:
        """To look at what the host's network has."""
        yield fake_hands(lambda name: FakeThings(name, things_in(self.directory / host / "run" / "network" / name)))

    def cpu_s(self) -> Mapping[str, float]:
        """By kind of daemon."""
        used = {kind: sum(daemon.cpu_s() for daemon in self.kind(kind)) for kind in self._counts}
        return {**used, "etcd": self.etcd.cpu_s()}

    def add(self, kind: str, number: int) -> Process:
        """Start it, with a configuration of its own."""
        name = f"{kind}-{number}"
        file = self.directory / f"{name}.toml"
        file.write_text(config.to_toml(self._config(kind, number)))
        command = [sys.executable, "-m", "ucloud.daemon.main", "daemon", kind, "--config", str(file)]
        self.daemons[name] = Process(name, command, self.directory / f"{name}.log")
        self.daemons[name].start()
        return self.daemons[name]

    def _config(self, kind: str, number: int) -> config.Config:
        state = self.directory / (f"host-{number}" if kind == "lease" else f"{kind}-{number}")
        return config.Config(
            etcd=config.Etcd(endpoints=tuple(self.endpoints), election_ms=1000),
            host=config.Host(
                id=self.host_ids.get(state.name, ""),
                name=f"h{number}",
                state_dir=str(state / "state"),
                run_dir=str(state / "run"),
                cpus=CPUS,
                memory_mib=MEMORY_MIB,
                hypervisor="fake",
                ttl_s=self.host_ttl_s,
            ),
            api=config.Api(socket="", listen=f"[::1]:{self._ports[number - 1]}" if kind == "api" else ""),
            control=config.Control(ttl_s=self.control_ttl_s),
            network=config.Network(driver="fake", public=(PUBLIC,)),
            log=config.Log(level=self._log_level),
        )

    def _upload(self, client: Client) -> None:
        file = self.directory / "sector.img"
        file.write_bytes(DISK)
        _, action = client.upload_image(IMAGE, file)
        done = client.wait(action, timeout_s=120)
        assert done["state"] == "success", done


@contextmanager
def plain_cloud(directory: Path, **options: object) -> Iterator[PlainCloud]:
    """It is up inside the block, with its files below `directory`; afterwards its processes are gone."""
    cloud = PlainCloud(directory, **options)  # type: ignore[arg-type]
    with running(cloud):
        yield cloud


@contextmanager
def running(cloud: PlainCloud) -> Iterator[None]:
    try:
        cloud.up()
        yield
    finally:
        cloud.down()


def answers(endpoint: str) -> bool:
    store = EtcdStore([endpoint], SystemClock())
    try:
        store.list("")
    except Temporary:
        return False
    finally:
        store.close()
    return True


def environment() -> dict[str, str]:
    """No setting of whoever runs this reaches a daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("UCLOUD_")}


def stats() -> Iterator[tuple[int, list[str]]]:
    """Of every process: its number, and the fields of its `stat` from the state on."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            yield int(directory.name), (directory / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
