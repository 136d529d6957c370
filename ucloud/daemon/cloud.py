"""A cloud on one machine, as data: what it is made of, where everything of it is, which commands run it.

Made by `ucloud up` from its options, kept in `cloud.json` in the state directory, read back by everything that later works
on the same cloud. The state directory of the cloud NAME is always found as /var/lib/ucloud-NAME (`uc`: /var/lib/ucloud),
which is a symbolic link when `--state` says otherwise.
"""

import hashlib
import os
import re
import sys
from functools import cached_property
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Literal

import msgspec

from ucloud.base import config
from ucloud.base.config import Network
from ucloud.base.errors import Invalid
from ucloud.daemon import drivers
from ucloud.driver.announcer import bird_config

DEFAULT_NAME = "uc"
NAME = re.compile(r"[a-z][a-z0-9-]{0,8}")  # with "-link" it still is the name of an interface: 15 bytes
STATE_ROOT, RUN_ROOT = Path("/var/lib"), Path("/run")
LONGEST_SOCKET = f"/h1/vm/vm-{'0' * 26}/console"
MAX_SOCKET_BYTES = 107
MAX_HOSTS = 9
KNOWN_BY_ID = ("deadman", "lease", "host")  # daemons that need the id of their host
ROUTER = "router"  # the daemon, its host and its cables
UPLINK = "up0"  # a host's interface on the underlay, and the router's
RESERVE_MIB = 1024  # of the machine's memory: not for guests
ETCD_PORT, ETCD_PEER_PORT = 2379, 2380
ETCD_QUOTA_BYTES = 4 << 30
ETCD_KEEP = "10m"  # of history: a watch that was away for longer lists again
CONTROL_TTL_S = 2.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user chose, and the ids that the API gave to the hosts, so that the next `up` brings back the same ones.

    cpus, memory_mib: what each host has for guests; 0: all cores, and its share of the memory. ttl_s: silence after which a
    host is declared dead.
    """

    name: str = DEFAULT_NAME
    hosts: int = 1
    etcd: int = 1
    cpus: int = 0
    memory_mib: int = 0
    ttl_s: int = 2
    port: int = 8642
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    hypervisor: Literal["qemu", "fake"] = "qemu"
    network: Literal["linux", "fake"] = "linux"
    host_ids: dict[str, str] = {}


class Daemon(msgspec.Struct, frozen=True):
    """host: empty for the router. command: as the kernel shows it once it runs. needs: it starts when this file is there, and
    none of `bans`."""

    name: str
    host: str
    namespace: str
    command: tuple[str, ...]
    needs: Path
    bans: tuple[Path, ...] = ()

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


class Cloud:
    def __init__(self, settings: Settings, state_dir: Path, run_dir: Path) -> None:
        self.settings, self.state_dir, self.run_dir = settings, state_dir, run_dir

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(f"h{number}" for number in range(1, self.settings.hosts + 1))

    @property
    def central_hosts(self) -> tuple[str, ...]:
        """Those that carry an API and a control process."""
        return self.hosts[:3]

    @property
    def etcd_hosts(self) -> tuple[str, ...]:
        return self.hosts[: self.settings.etcd]

    @property
    def file(self) -> Path:
        return self.state_dir / "cloud.json"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"

    @property
    def pool_dir(self) -> Path:
        return self.state_dir / "pool"

    @property
    def socket(self) -> Path:
        """Leads, as `url` does, to any API that answers."""
        return self.run_dir / "api.sock"

    def host_run_dir(self, host: str) -> Path:
        """What a power cut takes."""
        return self.run_dir / host

    def api_socket(self, host: str) -> Path:
        return self.host_run_dir(host) / "api.sock"

    @property
    def marks_dir(self) -> Path:
        """Which faults `ucloud lab` has made: see `lab_marks`."""
        return self.run_dir / "lab"

    @property
    def url(self) -> str:
        return f"http://[::1]:{self.settings.port}"

    @property
    def underlay(self) -> str:
        return f"{self.name}-underlay"

    @property
    def router(self) -> str:
        """Between the machine, the hosts and their public VMs; a namespace, too."""
        return f"{self.name}-router"

    @property
    def machine_link(self) -> str:
        """The machine's own interface, to the router."""
        return f"{self.name}-link"

    def namespace(self, host: str) -> str:
        return f"{self.name}-{host}"

    @cached_property
    def prefix(self) -> IPv6Network:
        """Of all its addresses: unique local (RFC 4193), derived from the name so that clouds beside each other don't meet."""
        return IPv6Network((b"\xfd" + hashlib.sha256(self.name.encode()).digest()[:5] + bytes(10), 48))

    @property
    def subnet(self) -> IPv6Network:
        """The underlay's."""
        return self._part(0, 64)

    @property
    def link_subnet(self) -> IPv6Network:
        """Of the cable between the router and the machine."""
        return self._part(1, 64)

    @property
    def public(self) -> IPv6Network:
        """Of which each public network gets a /64."""
        return self._part(0x100, 56)

    def _part(self, number: int, length: int) -> IPv6Network:
        return IPv6Network((int(self.prefix.network_address) | number << 64, length))

    def address(self, host: str) -> IPv6Address:
        return self.subnet[int(host.removeprefix("h"))]

    @property
    def router_address(self) -> IPv6Address:
        """On the underlay; on the machine's cable it is the first."""
        return self.subnet[0xFFFF]

    @property
    def election_ms(self) -> int:
        """Of etcd: as short as hosts' leases need it, and as long as they let it be, as a busy machine makes members slow. etcd
        grants no lease shorter than 1.5 times this."""
        return 300 if self.settings.ttl_s < 6 else 1000

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        return tuple(self._etcd_url(host, ETCD_PORT) for host in self.etcd_hosts)

    def config_file(self, name: str) -> Path:
        return self.run_dir / f"{name}.toml"

    def config(self, host: str) -> config.Config:
        """The settings of all daemons of one host. They ask first the etcd of their own host."""
        own = self._etcd_url(host, ETCD_PORT)
        return config.Config(
            etcd=config.Etcd(
                endpoints=tuple(sorted(self.etcd_endpoints, key=lambda endpoint: endpoint != own)), election_ms=self.election_ms
            ),
            host=config.Host(
                id=self.settings.host_ids.get(host, ""),
                name=host,
                state_dir=str(self.state_dir / host),
                run_dir=str(self.host_run_dir(host)),
                address=str(self.address(host)),
                cpus=self.settings.cpus,
                memory_mib=self.settings.memory_mib or self._memory_share_mib,
                accel=self.settings.accel,
                hypervisor=self.settings.hypervisor,
                ttl_s=self.settings.ttl_s,
            ),
            api=config.Api(socket=str(self.api_socket(host))),
            control=config.Control(ttl_s=CONTROL_TTL_S),
            network=self.network,
        )

    @property
    def network(self) -> Network:
        """`tiny` has no DHCPv6 client: networks let guests make their address."""
        return Network(
            driver=self.settings.network,
            public=(str(self.public),),
            slaac=True,
            underlay=(str(self.subnet),),
            routers=(str(self.router_address),),
        )

    @property
    def router_file(self) -> Path:
        return self.run_dir / f"{ROUTER}.conf"

    def router_config(self) -> str:
        return bird_config.router(
            address=str(self.router_address),
            interface=UPLINK,
            hosts=str(self.subnet),
            host_as=self.network.host_as,
            router_as=self.network.router_as,
            prefixes=self.network.public,
        )

    @property
    def _memory_share_mib(self) -> int:
        """A single host says itself what it has."""
        return 0 if len(self.hosts) == 1 else max(1, drivers.machine.memory_mib() - RESERVE_MIB) // len(self.hosts)

    def daemons(self) -> list[Daemon]:
        """In the order in which they start; they stop in reverse."""
        return [
            Daemon(ROUTER, "", self.router, self._bird(), self.router_file),
            *(self._daemon("etcd", host, self._etcd(host), self.file) for host in self.etcd_hosts),
            *(self._own_daemon("api", host) for host in self.central_hosts),
            *(self._own_daemon("control", host) for host in self.central_hosts),
            *(self._own_daemon("metadata", host) for host in self.hosts),
            *(self._own_daemon(kind, host) for kind in KNOWN_BY_ID for host in self.hosts),
        ]

    def _own_daemon(self, kind: str, host: str) -> Daemon:
        file = self.config_file(daemon_name(kind, host))
        return self._daemon(kind, host, ucloud_command("daemon", kind, "--config", str(file)), file)

    def _daemon(self, kind: str, host: str, command: tuple[str, ...], needs: Path) -> Daemon:
        name = daemon_name(kind, host)
        bans = [self.marks_dir / mark for mark in (f"{name}.killed", f"{host}.killed", f"{host}.frozen")]
        return Daemon(name, host, self.namespace(host), command, needs, tuple(bans))

    def supervisor_command(self) -> tuple[str, ...]:
        return ucloud_command("daemon", "up", "--config", str(self.file))

    def _bird(self) -> tuple[str, ...]:
        return ("bird", "-f", "-c", str(self.router_file), "-s", str(self.router_file.with_suffix(".ctl")))

    def _etcd(self, host: str) -> tuple[str, ...]:
        members = {daemon_name("etcd", other): self._etcd_url(other, ETCD_PEER_PORT) for other in self.etcd_hosts}
        name = daemon_name("etcd", host)
        client, peer = self._etcd_url(host, ETCD_PORT), members[name]
        options = {
            "name": name,
            "data-dir": self.state_dir / name,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{member}={url}" for member, url in members.items()),
            "initial-cluster-token": self.name,
            "heartbeat-interval": max(50, self.election_ms // 10),
            "election-timeout": self.election_ms,
            "quota-backend-bytes": ETCD_QUOTA_BYTES,
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": ETCD_KEEP,
            "logger": "zap",
            "log-outputs": "stderr",
            "log-level": "warn",
        }
        return ("etcd", *(f"--{option}={value}" for option, value in options.items()))

    def _etcd_url(self, host: str, port: int) -> str:
        return f"http://[{self.address(host)}]:{port}"


def daemon_name(kind: str, host: str) -> str:
    return f"{kind}-{host.removeprefix('h')}"


def ucloud_command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ucloud.daemon.main", *arguments)


def home(name: str) -> Path:
    """Where the state of this cloud is found, whatever `--state` said. Raises Invalid for what cannot be a cloud's name."""
    if not NAME.fullmatch(name):
        raise Invalid(f"--name {name}: expected at most 9 of a-z 0-9 -, starting with a letter")
    return STATE_ROOT / ("ucloud" if name == DEFAULT_NAME else f"ucloud-{name}")


def find_cloud(name: str) -> Cloud | None:
    """The cloud of this name, running or not; None if there is none."""
    return load_cloud(home(name) / "cloud.json") if (home(name) / "cloud.json").exists() else None


def load_cloud(file: Path) -> Cloud:
    try:
        settings = msgspec.json.decode(file.read_bytes(), type=Settings)
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid(f"{file}: {error}") from error
    return cloud_at(settings, file.resolve().parent)


def cloud_at(settings: Settings, state_dir: Path) -> Cloud:
    """The cloud with its state there; what need not survive a reboot is below /run, or below a directory of the user's."""
    own = home(settings.name)
    run_dir = RUN_ROOT / own.name if state_dir == own.parent.resolve() / own.name else state_dir / "run"
    longest = len(os.fsencode(run_dir)) + len(LONGEST_SOCKET)
    if longest > MAX_SOCKET_BYTES:
        room = MAX_SOCKET_BYTES - len(LONGEST_SOCKET) - len("/run")
        raise Invalid(f"--state {state_dir}: too long for the sockets below it; at most {room} bytes")
    return Cloud(settings, state_dir, run_dir)


def save_cloud(cloud: Cloud) -> None:
    replace_file(cloud.file, msgspec.json.format(msgspec.json.encode(cloud.settings)))


def replace_file(file: Path, data: bytes) -> None:
    """Never half written, also when the machine dies meanwhile."""
    new = file.with_suffix(".new")
    with new.open("wb") as half_written:
        half_written.write(data)
        half_written.flush()
        os.fsync(half_written.fileno())
    new.rename(file)


def contents(state_dir: Path) -> list[Path]:
    """What ucloud put into a state directory."""
    patterns = ("cloud.json", "cloud.new", "etcd-*", "h[0-9]*", "log", "pool", "run")
    return [file for pattern in patterns for file in state_dir.glob(pattern)]
