"""`ucloud up`, `down`, `status`: a cloud on one machine, for learning, for tests, and as the smallest real one."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from ucloud.base.errors import Conflict, Error, Invalid, NotFound
from ucloud.cli.options import Size, report_option
from ucloud.cli.output import show_table
from ucloud.client import Client
from ucloud.daemon import supervisor
from ucloud.daemon.bringup import bring_up
from ucloud.daemon.cloud import DEFAULT_NAME, MAX_HOSTS, Cloud, Settings, cloud_at, find_cloud, home, load_cloud
from ucloud.daemon.lab_marks import Marks
from ucloud.daemon.teardown import supervisors_of, tear_down

DEFAULT_PORT = Settings().port

name_option = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which cloud, where there are several.")


@click.command()
@click.option("--hosts", type=click.IntRange(1, MAX_HOSTS), metavar="N", help="How many hosts; may grow.  [default: 1]")
@click.option("--etcd", type=click.Choice(["1", "3"]), help="How many etcd members.  [default: 3 from three hosts on, else 1]")
@click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Of each host, for guests.  [default: all cores]")
@click.option("--memory", type=Size(), help="Of each host, for guests.  [default: an equal share]")
@click.option(
    "--ttl", "ttl_s", type=click.IntRange(2, 60), metavar="S", help="Silence after which a host is dead.  [default: 2]"
)
@click.option("--state", metavar="DIR", help="Keep everything below DIR, not in /var/lib/ucloud and /run/ucloud.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help="How guests run; auto: kvm where it works.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of [::1], where the API is reached.  [default: {DEFAULT_PORT}]")
@click.option("--hypervisor", type=click.Choice(["qemu", "fake"]), hidden=True)
@click.option("--network", type=click.Choice(["linux", "fake"]), hidden=True)
@name_option
def up(state: str | None, name: str, etcd: str | None, memory: int | None, **options: Any) -> None:
    """Start a cloud on this machine, or repair it.

    Running it again is harmless: options that are not given stay as they were, and nothing that is kept is lost. It undoes
    what `ucloud lab` has done.

    \b
    Example:
      ucloud up --hosts 3
    """
    need_root()
    given = options | {"etcd": int(etcd) if etcd else None, "memory_mib": memory}
    cloud = choose(name, state, {key: value for key, value in given.items() if value is not None})
    try:
        cloud = bring_up(cloud, say)
    except KeyboardInterrupt:
        again, undo = f"ucloud up{name_of(name)}", f"ucloud down --wipe{name_of(name)}"
        raise click.ClickException(f"interrupted; `{again}` goes on, `{undo}` undoes it") from None
    click.echo(welcome(cloud))


def choose(name: str, state: str | None, given: dict[str, Any]) -> Cloud:
    """The cloud that is there, changed as far as `given` says and as it may be changed while it runs; or a new one."""
    directory = Path(state).resolve() if state else home(name).parent.resolve() / home(name).name
    old = find_cloud(name)
    if old and not state:
        directory = old.state_dir
    elif (directory / "cloud.json").exists():  # its link from /var/lib may be lost
        old = load_cloud(directory / "cloud.json")
    if old and old.name != name:
        raise Conflict(f"{directory} holds the state of the cloud {old.name}; give --name {old.name}, or another --state")
    return cloud_at(changed(old, given) if old else new_settings(name, given), directory)


def new_settings(name: str, given: dict[str, Any]) -> Settings:
    hosts = given.get("hosts", 1)
    settings = msgspec.convert({"name": name, "etcd": 3 if hosts >= 3 else 1} | given, Settings)
    if settings.etcd > settings.hosts:
        raise Invalid(f"--etcd {settings.etcd}: each member needs a host of its own, and there are {settings.hosts}")
    return settings


def changed(old: Cloud, given: dict[str, Any]) -> Settings:
    before = old.settings
    settings = msgspec.convert(msgspec.to_builtins(before) | given, Settings)
    if settings.hosts < before.hosts:
        raise Conflict(f"the cloud {old.name} has {before.hosts} hosts; it can get more, but `up` takes none away")
    if settings.etcd != before.etcd:
        wipe = f"ucloud down --wipe{name_of(old.name)}"
        raise Conflict(f"the cloud {old.name} was made with --etcd {before.etcd}, and stays so until `{wipe}`")
    differing = [key for key in given if key != "hosts" and getattr(before, key) != given[key]]
    if differing and supervisors_of(old):
        running = ", ".join(f"--{key.removesuffix('_mib')} {getattr(before, key)}" for key in differing)
        raise Conflict(f"the cloud {old.name} is running with {running}; first `ucloud down{name_of(old.name)}`")
    return settings


@click.command()
@click.option("--wipe", is_flag=True, help="Delete everything: images, disks, records, logs.")
@name_option
def down(wipe: bool, name: str) -> None:
    """End the cloud on this machine.

    Guests are killed, not asked to shut down: stop first those that matter. Records, images and disks are kept for the next
    `ucloud up`, unless --wipe is given.

    \b
    Example:
      ucloud down --wipe
    """
    need_root()
    known = find_cloud(name)
    cloud = known or cloud_at(Settings(name=name), home(name).resolve())
    tear_down(cloud, say, wipe=wipe)
    kept = f"its state is in {cloud.state_dir}" if known and not wipe else "nothing of it is left"
    say(f"{name} is down; {kept}")


@click.command()
@report_option
@name_option
def status(output: str, name: str) -> None:
    """Show where the cloud on this machine is, and how it is. Exit 0 if its API answers.

    \b
    Example:
      ucloud status -o json
    """
    need_root()
    cloud = find_cloud(name)
    if not cloud:
        raise NotFound(f"there is no cloud {name} on this machine; `ucloud up{name_of(name)}` makes one")
    hosts = ask_hosts(cloud)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(describe(cloud, hosts))).decode())
    else:
        show(cloud, hosts)
    sys.exit(0 if hosts is not None else 1)


def ask_hosts(cloud: Cloud) -> list[dict[str, Any]] | None:
    """None if the API does not answer."""
    if not supervisors_of(cloud):
        return None
    try:
        with Client([f"unix:{cloud.socket}"], patience_s=5) as api:
            return list(api.hosts())
    except Error:
        return None


def describe(cloud: Cloud, hosts: list[dict[str, Any]] | None) -> dict[str, Any]:
    """faults: what `ucloud lab` did, to a daemon or to its host."""
    marks = Marks(cloud.marks_dir)
    shown = [{"name": host, "state": "unknown"} for host in cloud.hosts] if hosts is None else hosts
    placed = {daemon.name: daemon.host for daemon in cloud.daemons()}
    states = supervisor.states(cloud) if supervisors_of(cloud) else []
    return {
        "name": cloud.name,
        "api": cloud.url,
        "apis": [cloud.url],
        "web": None,
        "etcd": {"endpoints": list(cloud.etcd_endpoints), "ca": None, "cert": None, "key": None},
        "hosts": [host | {"faults": marks.of(host["name"])} for host in shown],
        "daemons": [
            msgspec.to_builtins(state) | {"faults": marks.of(state.name, placed.get(state.name, ""))} for state in states
        ],
        "state_dir": str(cloud.state_dir),
        "socket": str(cloud.socket),
        "sockets": {daemon: str(cloud.api_socket(host)) for daemon, host in placed.items() if daemon.startswith("api-")},
    }


def show(cloud: Cloud, hosts: list[dict[str, Any]] | None) -> None:
    told = describe(cloud, hosts)
    rows = [["", "state", "where"], ["api", "answers" if hosts is not None else "does not answer", cloud.url]]
    for daemon in told["daemons"]:
        where = [f"process {daemon['pid']}"] if daemon["pid"] else []
        if daemon["restarts"]:
            where += [f"{daemon['restarts']} restarts"]
        if daemon["exit"]:
            where += [f"the last one: {daemon['exit']}"]
        state = "runs" if daemon["pid"] else "ended" if daemon["exit"] else "waits"
        rows.append([daemon["name"], state_and_faults(state, daemon), ", ".join(where)])
    for host in told["hosts"]:
        rows.append([host["name"], state_and_faults(host["state"], host), f"namespace {cloud.namespace(host['name'])}"])
    show_table([*rows, ["state", "", str(cloud.state_dir)]])


def state_and_faults(state: str, shown: dict[str, Any]) -> str:
    return f"{state} ({', '.join(shown['faults'])} by lab)" if shown["faults"] else state


def welcome(cloud: Cloud) -> str:
    """What `up` says at the end, on stdout."""
    lines = [f"The cloud {cloud.name} is up: {cloud.url}"]
    if cloud.name != DEFAULT_NAME or cloud.settings.port != DEFAULT_PORT:
        lines += ["Type next:", f"  export UCLOUD_API={cloud.url}"]
    else:
        lines += ["Type next:"]
    lines += ["  ucloud host list", "  ucloud image upload NAME FILE", "  ucloud vm create NAME --image IMAGE"]
    lines += [f"  ucloud status{name_of(cloud.name)}"]
    return "\n".join(lines)


def name_of(cloud: str) -> str:
    """The option that a command for this cloud needs."""
    return "" if cloud == DEFAULT_NAME else f" --name {cloud}"


def need_root() -> None:
    if os.geteuid() != 0:
        raise click.ClickException("this works on the machine's network and processes: run it as root, or with sudo")


def say(text: str) -> None:
    click.echo(text, err=True)
