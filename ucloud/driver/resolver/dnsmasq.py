"""Router advertisements, DHCP and DNS for the guests of this host, by dnsmasq: its processes for each network, in the network
namespace of whoever calls. Picked by daemon/drivers.py; its sets are kept by `ucloud.host.network`.

Of a network there is, in `run_dir`/resolver/<vni> (root's alone): a file for each guest with a reservation (`guests/<vm>`), one
for each name (`names/<vm>`), which dnsmasq notices by itself as they come, and a bounded log.
"""

import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ucloud.base.errors import Temporary
from ucloud.driver.overlay.names import bridge
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq_command import GUESTS, LOG, NAMES, Program, guest_file, names_file, programs, uid
from ucloud.driver.resolver.dnsmasq_process import Launch, Process
from ucloud.model.wiring import HostName, Reservation, Service

TRIM_BYTES = 64 * 1024  # a longer log is emptied

T = TypeVar("T", bound=Reservation | HostName)


class DnsmasqResolver:
    def __init__(self, run_dir: Path, resolvers: Sequence[str]) -> None:
        """run_dir: tells this host's processes from those of others on the same kernel. resolvers: IPv6 addresses of the DNS
        servers that are asked for the names of others."""
        directory = run_dir.resolve() / "resolver"
        self.services = Services(directory, resolvers)
        self.reservations: Files[Reservation] = Files("reservation", directory, GUESTS, Reservation, guest_file)
        self.names: Files[HostName] = Files("name", directory, NAMES, HostName, names_file)


class Services:
    name = "resolver"

    def __init__(self, directory: Path, resolvers: Sequence[str]) -> None:
        self._directory, self._resolvers = directory, resolvers

    def actual(self) -> Mapping[str, Service | None]:
        running = by_network(self._directory)
        keys = {*running, *(network.name for network in entries(self._directory) if Path(network, LOG).exists())}
        for key in keys:
            trim(self._directory / key / LOG)
        return {key: self._as_it_is(key, running.get(key, ())) for key in sorted(keys)}

    def add(self, things: Sequence[Service]) -> None:
        running = by_network(self._directory) if things else {}
        for service in things:
            found = running.get(service.key, ())
            if self._as_it_is(service.key, found) != service:
                dnsmasq_process.end(found)
                self._launch(service)

    def remove(self, keys: Sequence[str]) -> None:
        running = by_network(self._directory) if keys else {}
        for key in keys:
            dnsmasq_process.end(running.get(key, ()))
            with refused(network := self._directory / key):
                (network / LOG).unlink(missing_ok=True)
            remove_if_empty(network)

    def _launch(self, service: Service) -> None:
        network, user = self._directory / service.key, uid(service.vni)
        if not interface_number(bridge(service.vni)):
            raise Temporary(f"there is no interface {bridge(service.vni)} to serve")
        with refused(network):
            for kind in (GUESTS, NAMES):
                make_directory(network / kind)
            (network / LOG).unlink(missing_ok=True)
            os.close(os.open(network / LOG, os.O_CREAT | os.O_EXCL, 0o600))
            os.chown(network / LOG, user, user)
        dnsmasq_process.launch(self._wanted(service), network, user)

    def _as_it_is(self, key: str, found: Collection[Process]) -> Service | None:
        """What these processes do together; None unless all that should be there are, as they would be launched now, and no
        others."""
        pids = {process.pid for process in found}
        mains = [process for process in found if process.parent not in pids]
        service = next((process.launch.service for process in mains if process.launch), None)
        if service is None or service.key != key:
            return None
        seen = sorted((str(process.launch), process.user, process.command) for process in mains)
        try:
            wanted = sorted((str(launch), uid(service.vni), program.command) for launch, program in self._wanted(service))
        except (ValueError, IndexError):  # a service that makes no sense: it has changed its own environment
            return None
        return service if seen == wanted else None

    def _wanted(self, service: Service) -> Iterator[tuple[Launch, Program]]:
        network = self._directory / service.key
        bound = (interface_number(bridge(service.vni)), inode(network / GUESTS), inode(network / NAMES))
        for program in programs(service, self._resolvers):
            yield Launch(service, program.name, *bound), program


class Files(Generic[T]):
    """Things that are a file each. A file that dnsmasq is reading is never half written."""

    def __init__(self, name: str, directory: Path, kind: str, type: type[T], text: Callable[[T], str]) -> None:
        self.name = name
        self._directory, self._kind, self._type, self._text = directory, kind, type, text
        self._seen: dict[str, tuple[tuple[int, ...], T | None]] = {}  # what was read of each, and what it looked like then

    def actual(self) -> Mapping[str, T | None]:
        """Reads only what has changed since the last time: there may be thousands."""
        seen = {}
        for network in entries(self._directory):
            for file in entries(self._directory / network.name / self._kind):
                with suppress(FileNotFoundError):
                    key, stamp = f"{network.name}/{file.name}", stamp_of(file)
                    before = self._seen.get(key)
                    seen[key] = before if before and before[0] == stamp else (stamp, self._read(Path(file)))
        self._seen = seen
        return {key: thing for key, (_, thing) in seen.items()}

    def add(self, things: Sequence[T]) -> None:
        changed = set()
        for thing in things:
            file, text = self._file(thing.key), self._text(thing)
            with refused(file):
                make_directory(file.parent)
                if file.exists() and file.read_text(errors="replace") != text:
                    changed.add(f"{thing.vni}")
                new = hidden(file)
                new.write_text(text)
                new.chmod(0o644)
                new.rename(file)
        self._reread(changed)

    def remove(self, keys: Sequence[str]) -> None:
        changed = set()
        for key in keys:
            file = self._file(key)
            with refused(file):
                for trace in (file, hidden(file)):
                    trace.unlink(missing_ok=True)
            changed.add(file.parents[1].name)
        self._reread(changed)
        for network in changed:
            if not (self._directory / network / LOG).exists():
                remove_if_empty(self._directory / network)

    def _file(self, key: str) -> Path:
        network, vm = key.split("/")
        return self._directory / network / self._kind / vm

    def _read(self, file: Path) -> T | None:
        with suppress(OSError, msgspec.MsgspecError):
            text = file.read_text(errors="replace")
            thing = msgspec.json.decode(text.partition("\n")[0].removeprefix("# "), type=self._type)
            if self._file(thing.key) == file and self._text(thing) == text:
                return thing
        return None

    def _reread(self, networks: Collection[str]) -> None:
        """What dnsmasq once read of its guests it keeps until it is told to read all anew."""
        if networks and self._kind == GUESTS:
            running = by_network(self._directory)
            for process in (process for network in networks for process in running.get(network, ())):
                if process.launch and process.launch.program != "dns":
                    dnsmasq_process.reread(process)


def by_network(directory: Path) -> Mapping[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for process in dnsmasq_process.find(directory):
        found.setdefault(process.directory.name, []).append(process)
    return found


def entries(directory: Path) -> list["os.DirEntry[str]"]:
    """All but hidden ones; none where there is no such directory."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as found:
        return [entry for entry in found if not entry.name.startswith(".")]
    return []


def stamp_of(file: "os.DirEntry[str]") -> tuple[int, ...]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_ctime_ns


def hidden(file: Path) -> Path:
    """Where it is written first: dnsmasq reads no such files."""
    return file.with_name(f".{file.name}")


def make_directory(directory: Path) -> None:
    """For those who can reach it to read: on the host root alone, as it is in a directory of root's."""
    directory.parents[1].mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)


def remove_if_empty(network: Path) -> None:
    for directory in (network / GUESTS, network / NAMES, network):
        with suppress(OSError):
            directory.rmdir()


def trim(log: Path) -> None:
    """dnsmasq goes on at the new end."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > TRIM_BYTES:
            os.truncate(log, 0)


def interface_number(name: str) -> int:
    """0 if there is no such interface."""
    with suppress(OSError):
        return socket.if_nametoindex(name)
    return 0


def inode(directory: Path) -> int:
    with suppress(OSError):
        return directory.stat().st_ino
    return 0


@contextmanager
def refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Temporary(f"{path}: {error.strerror}") from error
