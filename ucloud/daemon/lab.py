"""`ucloud lab`: makes hosts, etcd members, API and control processes of a cloud on one machine fail, and work again.

For learning and for tests. It acts on processes and cables alone, as bad luck would, and asks no daemon; what it has done
stands in `lab_marks`. Each verb may be repeated.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial

import click

from ucloud.base.errors import Conflict, NotFound, Temporary
from ucloud.cli.noun import Noun
from ucloud.daemon import platform, underlay
from ucloud.daemon.cloud import ROUTER, Cloud, Daemon, daemon_name, find_cloud
from ucloud.daemon.lab_marks import Marks
from ucloud.daemon.teardown import KILL_S, end, find, kill_guests, supervisors_of
from ucloud.daemon.up import name_option, need_root
from ucloud.driver.process.contract import Process

LOOK_S = 0.01
STOP_S = 10.0


class Target:
    """What a fault is about: a host, or one daemon on it. daemon: None for a host."""

    def __init__(self, cloud: Cloud, name: str, host: str, daemon: Daemon | None) -> None:
        self.cloud, self.name, self.host, self.daemon = cloud, name, host, daemon
        self.marks, self._links = Marks(cloud.marks_dir), platform.links()

    def processes(self) -> list[Process]:
        """All that runs there, guests too; of a daemon, what it started too."""
        on_host = [daemon for daemon in self.cloud.daemons() if daemon.host == self.host]
        wanted = [self.daemon] if self.daemon else on_host
        found = find([daemon.command for daemon in wanted])
        if not self.daemon:
            found += platform.processes().inside(self.cloud.namespace(self.host))
            found += platform.processes().working_below(self.cloud.host_run_dir(self.host))  # guests
        return list(platform.processes().with_descendants(found))

    def connect(self) -> None:
        if self.marks.has(self.name, "cut") or self.marks.has(self.name, "killed"):
            return
        if not self.daemon:
            underlay.plug(self.cloud, self.host, self._links)
        elif self.daemon.kind == "etcd":
            self._links.unmute(self.daemon.namespace)

    def disconnect(self) -> None:
        """Of API and control processes, the traffic cannot be told from that of others on their host: it goes on."""
        if not self.daemon:
            underlay.unplug(self.cloud, self.host, self._links)
        elif self.daemon.kind == "etcd":
            underlay.mute_etcd(self.cloud, self.host, self._links)

    def is_off(self) -> bool:
        return any(self.marks.has(name, "killed") for name in (self.name, self.host))

    def forget_frozen(self) -> None:
        """A host's daemons are frozen no more than the host is."""
        daemons = [daemon.name for daemon in self.cloud.daemons() if daemon.host == self.host and not self.daemon]
        for name in (self.name, *daemons):
            self.marks.remove(name, "frozen")


def kill(target: Target) -> None:
    """First its cable, so that nobody hears it die; then all processes at once, so that none sees another die."""
    target.marks.add(target.name, "killed")
    target.disconnect()
    while processes := stop_all(target.processes):
        end(processes, signal.SIGKILL, KILL_S)
    target.forget_frozen()
    if not target.daemon:
        kill_guests(target.cloud, target.host)  # what is left of them in memory: control groups, logs
        shutil.rmtree(target.cloud.host_run_dir(target.host), ignore_errors=True)
        underlay.blank(target.cloud, target.host, platform.links())
        mute_again(target)


def mute_again(host: Target) -> None:
    """Its etcd member, if that was at fault before."""
    name = daemon_name("etcd", host.host)
    if host.marks.has(name, "cut") or host.marks.has(name, "killed"):
        underlay.mute_etcd(host.cloud, host.host, platform.links())


def boot(target: Target) -> None:
    if target.name != target.host and target.marks.has(target.host, "killed"):
        raise Conflict(f"{target.host} is off: boot it first")
    target.cloud.host_run_dir(target.host).mkdir(mode=0o700, exist_ok=True)
    target.marks.remove(target.name, "killed")
    target.connect()


def cut(target: Target) -> None:
    if target.daemon and target.daemon.kind != "etcd":
        raise Conflict(f"{target.name} has no cable of its own: cut its host, {target.host}")
    target.marks.add(target.name, "cut")
    target.disconnect()


def heal(target: Target) -> None:
    target.marks.remove(target.name, "cut")
    target.connect()


def freeze(target: Target) -> None:
    if target.is_off():
        raise Conflict(f"{target.name} is off")
    target.marks.add(target.name, "frozen")
    stop_all(target.processes)


def freeze_only(kind: str, target: Target) -> None:
    """One daemon alone: its guests go on."""
    if target.is_off():
        raise Conflict(f"{target.name} is off")
    name = daemon_name(kind, target.host)
    target.marks.add(name, "frozen")
    stop_all(lambda: find([daemon.command for daemon in target.cloud.daemons() if daemon.name == name]))


def thaw(target: Target) -> None:
    """All that is frozen there, however it came to be."""
    for process in target.processes():
        platform.processes().send(process, signal.SIGCONT)
    target.forget_frozen()


def stop_all(look: Callable[[], list[Process]]) -> list[Process]:
    """Until every process is stopped, those too that others started meanwhile. Answers them."""
    driver, until_s = platform.processes(), time.monotonic() + STOP_S
    while running := [process for process in look() if not driver.is_stopped(process)]:
        if time.monotonic() > until_s:
            raise Temporary(f"processes that do not stop: {', '.join(str(process.pid) for process in running)}")
        for process in running:
            driver.send(process, signal.SIGSTOP)
        time.sleep(LOOK_S)
    return look()


def find_target(cloud: Cloud, name: str, *, only_hosts: bool = False) -> Target:
    hosts = {host: Target(cloud, host, host, None) for host in cloud.hosts}
    others = ("host", ROUTER)  # the guests of a host would seem to be part of its daemon; the router is nobody's
    daemons = [daemon for daemon in cloud.daemons() if daemon.kind not in others]
    targets = hosts if only_hosts else hosts | {d.name: Target(cloud, d.name, d.host, d) for d in daemons}
    if name not in targets:
        raise NotFound(f"there is no {name} here; there are {', '.join(targets)}")
    return targets[name]


def running_cloud(name: str) -> Cloud:
    need_root()
    cloud = find_cloud(name)
    if not cloud or not supervisors_of(cloud):
        raise Conflict(f"the cloud {name} is not running: `ucloud up` starts it")
    return cloud


@click.group(cls=Noun)
def lab() -> None:
    """Make parts of the cloud on this machine fail, and work again.

    TARGET is a host (h2), or one of its processes: etcd-2, api-2, control-2, metadata-2. `ucloud up` undoes all faults.
    """


def add_verb(verb: Callable[[Target], None], help: str) -> None:
    @lab.command(verb.__name__, help=f"{help}\n\n\b\nExample:\n  ucloud lab {verb.__name__} h2")
    @click.argument("target")
    @name_option
    def run(target: str, name: str) -> None:
        act(verb, find_target(running_cloud(name), target))


def act(verb: Callable[[Target], None], target: Target) -> None:
    with target.marks.locked():
        verb(target)


add_verb(kill, "Power loss: everything there ends at once, guests too, and its cable is dead.")
add_verb(boot, "Power is back, after `kill`.")
add_verb(cut, "The network is gone; processes live.")
add_verb(heal, "The network is back, after `cut`.")
add_verb(thaw, "What was frozen goes on.")


@lab.command("freeze")
@click.argument("target")
@click.option("--only", type=click.Choice(["daemon", "lease", "deadman"]), help="Of a host only this process.")
@name_option
def freeze_command(target: str, only: str | None, name: str) -> None:
    """Every process stands still, guests too.

    \b
    Example:
      ucloud lab freeze h2
      ucloud lab freeze h2 --only daemon
      ucloud lab freeze h2 --only lease
    """
    verb = partial(freeze_only, "host" if only == "daemon" else only) if only else freeze
    act(verb, find_target(running_cloud(name), target, only_hosts=bool(only)))


@lab.command("exec")
@click.argument("host")
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND…")
@name_option
def execute(host: str, command: tuple[str, ...], name: str) -> None:
    """Run a command in a host's network.

    \b
    Example:
      ucloud lab exec h2 -- ip address
    """
    target = find_target(running_cloud(name), host, only_hosts=True)
    if target.is_off():
        raise Conflict(f"{host} is off")
    words = platform.processes().inside_command(target.cloud.namespace(host), command)
    os.execvp(words[0], words)
