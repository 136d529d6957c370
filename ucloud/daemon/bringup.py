"""`ucloud up`: makes a cloud on this machine, or repairs one; running it again is harmless.

In this order: what can be refused is refused before anything is made; then directories, network and the supervisor with its
daemons; then, through the API, the records of the pool and of each host; last the host daemons, which need their ids. What
takes long is told to `say`. Faults made by `ucloud lab` are undone.
"""

import errno
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from ucloud.base.config import Config, to_toml
from ucloud.base.errors import Conflict, Invalid, NotFound, Temporary
from ucloud.client import Client
from ucloud.daemon import logfile, platform, supervisor, underlay
from ucloud.daemon.cloud import KNOWN_BY_ID, ROUTER, Cloud, daemon_name, home, save_cloud
from ucloud.daemon.lab_marks import Marks, locked
from ucloud.daemon.teardown import find, stop_daemons, supervisors_of, tear_down, thaw
from ucloud.driver.process.contract import Process

READY_S = 120.0  # emulation and a slow disk included
LOOK_S = 0.05
PROGRAMS = {  # and the Debian packages that they come from
    "bird": "bird2",
    "dnsmasq": "dnsmasq-base",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
}

Say = Callable[[str], None]


def bring_up(cloud: Cloud, say: Say) -> Cloud:
    """Answers the cloud, with the ids of its hosts, once every host is up."""
    check_programs()
    check_state_dir(cloud)
    listener = None if supervisors_of(cloud) else listen(cloud)
    is_new = not cloud.file.exists()
    try:
        prepare(cloud, listener, say)
    except BaseException:
        if is_new:
            tear_down(cloud, say, wipe=True)
        raise
    with Client([f"unix:{cloud.socket}"]) as api:
        await_api(cloud, api, say)
        cloud = add_records(cloud, api, say)
        for host in cloud.hosts:
            configure_host(cloud, host)
        for host in cloud.hosts:
            await_host(cloud, host, api, say)
    return cloud


def prepare(cloud: Cloud, listener: socket.socket | None, say: Say) -> None:
    """Everything up to and including the supervisor. No listener: there is a supervisor already."""
    make_directories(cloud, say)
    with locked(cloud.state_dir):
        save_cloud(cloud)
        made = underlay.add(cloud, platform.links())
        for host in cloud.hosts:
            if cloud.namespace(host) in made:
                say(f"network: {cloud.namespace(host)} at {cloud.address(host)}")
        if not listener and find([daemon.command for daemon in cloud.daemons() if daemon.namespace in made]):
            stop_daemons(cloud, say)  # they are in a namespace that has lost its name
            listener = listen(cloud)
        undo_faults(cloud, say)
        if write(cloud.router_file, cloud.router_config()):
            tell(find([daemon.command for daemon in cloud.daemons() if daemon.name == ROUTER]), signal.SIGHUP)  # reads it again
        for host in cloud.central_hosts:
            write_config(cloud, daemon_name("api", host), cloud.config(host))
            write_config(cloud, daemon_name("control", host), cloud.config(host))
        for host in cloud.hosts:
            write_config(cloud, daemon_name("metadata", host), cloud.config(host))
        if listener:
            stop_daemons(cloud, say)  # of a supervisor that was killed
            start_supervisor(cloud, listener, say)
            listener.close()
        else:
            tell(supervisors_of(cloud), signal.SIGHUP)  # there may be more hosts now


def undo_faults(cloud: Cloud, say: Say) -> None:
    """What `ucloud lab` did. The cables work again already."""
    marks = Marks(cloud.marks_dir)
    with marks.locked():
        if faults := marks.all():
            say(f"undoing: {', '.join(faults)}")
            thaw(cloud)
            marks.clear()


def tell(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        platform.processes().send(process, number)


def check_programs(programs: Mapping[str, str] = PROGRAMS) -> None:
    """programs: with their Debian packages. Raises Invalid, naming those that are missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        packages = sorted({programs[program] for program in missing})
        raise Invalid(f"missing programs: {', '.join(missing)}; on Debian: apt install {' '.join(packages)}")


def check_state_dir(cloud: Cloud) -> None:
    directory, own = cloud.state_dir, home(cloud.name)
    if not cloud.file.exists() and directory.exists() and any(directory.iterdir()):
        raise Invalid(f"{directory} holds something that is not a cloud; give an empty directory, or one that is not there yet")
    if own.exists() and own.resolve() != directory:
        raise Conflict(
            f"the cloud {cloud.name} has its state in {own.resolve()}; first `ucloud down --wipe`, or use another --name"
        )


def listen(cloud: Cloud) -> socket.socket:
    """The port that is forwarded to the API, taken before anything else is made."""
    port = cloud.settings.port
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("::1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise Invalid(f"[::1]:{port}: {error.strerror}") from error
        holder = platform.processes().listening(port)
        by = f" by process {holder.pid} ({' '.join(holder.command)[:100]})" if holder else ""
        raise Conflict(f"port {port} of [::1] is taken{by}; choose another with --port") from error
    return listener


def make_directories(cloud: Cloud, say: Say) -> None:
    own = home(cloud.name)
    for directory in (cloud.state_dir, cloud.pool_dir):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)  # a guest's own user opens its disk by name, and lists nothing
    of_hosts = [place for host in cloud.hosts for place in (cloud.state_dir / host, cloud.host_run_dir(host))]
    for directory in (cloud.run_dir, cloud.log_dir, cloud.marks_dir, *of_hosts):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if own.resolve() != cloud.state_dir:
        own.unlink(missing_ok=True)  # the link of a cloud whose directory was deleted
        own.symlink_to(cloud.state_dir)
    closed = [parent for parent in cloud.state_dir.parents if not parent.stat().st_mode & 0o001]
    if closed:
        say(f"warning: guests run as users of their own, which cannot enter {closed[-1]}: their disks will not open")


def start_supervisor(cloud: Cloud, listener: socket.socket, say: Say) -> None:
    """Detached: it outlives this command and its terminal."""
    say("starting etcd, api, control")
    for host in cloud.hosts:
        for kind in KNOWN_BY_ID:
            cloud.config_file(daemon_name(kind, host)).unlink(missing_ok=True)  # its record may have to be made first
    with (cloud.log_dir / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            cloud.supervisor_command(),
            stdin=listener.fileno(),
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


def configure_host(cloud: Cloud, host: str) -> None:
    """Daemons that run with other settings are started again; its guests go on. What the host has for guests is no business of
    those that keep them alive: a cloud that grows takes memory from its hosts, and must not restart these."""
    settings = cloud.config(host)
    without_share = replace(settings, host=replace(settings.host, cpus=0, memory_mib=0))
    for kind in KNOWN_BY_ID:
        name = daemon_name(kind, host)
        if write_config(cloud, name, settings if kind == "host" else without_share):
            tell(find([daemon.command for daemon in cloud.daemons() if daemon.name == name]), signal.SIGTERM)


def write_config(cloud: Cloud, name: str, settings: Config) -> bool:
    """Answers whether it was another one."""
    text = f"# Written by `ucloud up`; changes will be lost.\n\n{to_toml(settings)}"
    return write(cloud.config_file(name), text)


def write(file: Path, text: str) -> bool:
    """Answers whether it held another text."""
    if file.exists() and file.read_text() == text:
        return False
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)
    return True


def await_api(cloud: Cloud, api: Client, say: Say) -> None:
    say("waiting for the API")
    await_that(api.is_ready, "the API", cloud)


def await_host(cloud: Cloud, host: str, api: Client, say: Say) -> None:
    say(f"waiting for host {host}")
    await_that(lambda: api.host(cloud.settings.host_ids[host])["state"] == "up", f"host {host}", cloud)


def await_that(happens: Callable[[], bool], what: str, cloud: Cloud) -> None:
    """Raises Temporary when it takes too long, with the last words of the daemons that keep ending."""
    until_s = time.monotonic() + READY_S
    while not happens():
        if time.monotonic() > until_s:
            raise Temporary(f"{what} did not come up within {READY_S:.0f} s{troubles(cloud)}; logs are in {cloud.log_dir}")
        if not supervisors_of(cloud):
            last = logfile.last_lines(cloud.log_dir / "supervisor.log", 3)
            raise Temporary(f"the supervisor ended: {' / '.join(last)}")
        time.sleep(LOOK_S)


def troubles(cloud: Cloud) -> str:
    """What the daemons that ended said last."""
    ended = [state for state in supervisor.states(cloud) if state.restarts]
    last = [(state, logfile.last_lines(cloud.log_dir / f"{state.name}.log", 1)) for state in ended]
    return "".join(f"; {state.name} ended {state.restarts} times ({state.exit}): {' '.join(lines)}" for state, lines in last)


def add_records(cloud: Cloud, api: Client, say: Say) -> Cloud:
    """The pool and the hosts, where they are not there yet; the ids of the hosts are kept."""
    shared, fence = (True, "same-kernel") if len(cloud.hosts) > 1 else (False, "none")
    with suppress(Conflict):  # it is there already
        api.create_pool("default", str(cloud.pool_dir), shared, fence)
    if shared:  # which it may not have been as long as there was one host
        api.set_pool("default", shared=shared, fence=fence)
    known = cloud.settings.host_ids
    ids = {host: host_id(host, known.get(host, host), api, say) for host in cloud.hosts}
    cloud = Cloud(replace(cloud.settings, host_ids=ids), cloud.state_dir, cloud.run_dir)
    save_cloud(cloud)
    return cloud


def host_id(host: str, id: str, api: Client, say: Say) -> str:
    """id: what it was when the cloud was started last, as its name may have been changed since."""
    for reference in (id, host):
        with suppress(NotFound):
            return str(api.host(reference)["id"])
    say(f"joining host {host}")
    return str(api.create_host(host)["id"])
