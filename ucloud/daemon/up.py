"""`ucloud up`, `down`, `status`: a cloud on one machine, for learning, for tests, and as the smallest real one."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ucloud.base.errors import Conflict, Error, NotFound
from ucloud.client import Client
from ucloud.daemon import supervisor
from ucloud.daemon.bringup import bring_up
from ucloud.daemon.cloud import DEFAULT_NAME, Cloud, Settings, cloud_at, find_cloud, home, load_cloud
from ucloud.daemon.teardown import supervisors_of, tear_down

DEFAULT_PORT = Settings().port

name_option = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which cloud, where there are several.")


@click.command()
@click.option("--hosts", type=int, default=1, show_default=True, metavar="N", help="How many hosts; only 1 for now.")
@click.option("--etcd", type=int, default=1, show_default=True, metavar="N", help="How many etcd members; only 1 for now.")
@click.option("--state", metavar="DIR", help="Keep everything below DIR, not in /var/lib/ucloud and /run/ucloud.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help="How guests run; auto: kvm where it works.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of [::1], where the API is reached.  [default: {DEFAULT_PORT}]")
@click.option("--hypervisor", type=click.Choice(["qemu", "fake"]), hidden=True)
@name_option
def up(
    hosts: int, etcd: int, state: str | None, accel: str | None, port: int | None, hypervisor: str | None, name: str
) -> None:
    """Start a cloud on this machine, or repair it.

    Running it again is harmless: options that are not given stay as they were, and nothing that is kept is lost.
    """
    for option, number in (("--hosts", hosts), ("--etcd", etcd)):
        if number != 1:
            raise click.UsageError(f"{option} {number}: a later version; this one starts a cloud with 1")
    need_root()
    given = {"accel": accel, "port": port, "hypervisor": hypervisor}
    cloud = bring_up(choose(name, state, {key: value for key, value in given.items() if value is not None}), say)
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
    before = old.settings if old else Settings(name=name)
    settings = msgspec.convert(msgspec.to_builtins(before) | given, Settings)
    if old and settings != before and supervisors_of(old):
        changed = [f"--{key} {getattr(before, key)}" for key, value in given.items() if getattr(before, key) != value]
        raise Conflict(f"the cloud {name} is running with {', '.join(changed)}; first `ucloud down`")
    return cloud_at(settings, directory)


@click.command()
@click.option("--wipe", is_flag=True, help="Delete everything: images, disks, records, logs.")
@name_option
def down(wipe: bool, name: str) -> None:
    """End the cloud on this machine.

    Guests are killed, not asked to shut down: stop first those that matter. Records, images and disks are kept for the next
    `ucloud up`, unless --wipe is given.
    """
    need_root()
    cloud = find_cloud(name) or cloud_at(Settings(name=name), home(name).resolve())
    tear_down(cloud, say, wipe=wipe)
    say(f"{name} is down; " + ("nothing of it is left" if wipe else f"its state is in {cloud.state_dir}"))


@click.command()
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@name_option
def status(output: str, name: str) -> None:
    """Show where the cloud on this machine is, and how it is. Exit 0 if its API answers."""
    need_root()
    cloud = find_cloud(name)
    if not cloud:
        raise NotFound(f"there is no cloud {name} on this machine; `ucloud up` makes one")
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
    unknown = [{"name": host, "state": "unknown"} for host in cloud.hosts]
    return {
        "name": cloud.name,
        "api": cloud.url,
        "apis": [cloud.url],
        "web": None,
        "etcd": {"endpoints": list(cloud.etcd_endpoints), "ca": None, "cert": None, "key": None},
        "hosts": unknown if hosts is None else hosts,
        "daemons": [msgspec.to_builtins(state) for state in supervisor.states(cloud)] if supervisors_of(cloud) else [],
        "state_dir": str(cloud.state_dir),
        "socket": str(cloud.socket),
    }


def show(cloud: Cloud, hosts: list[dict[str, Any]] | None) -> None:
    told = describe(cloud, hosts)
    table = Table("", "state", "where", box=None, pad_edge=False)
    table.add_row("api", "answers" if hosts is not None else "does not answer", cloud.url)
    for daemon in told["daemons"]:
        where = f"process {daemon['pid']}" if daemon["pid"] else daemon["exit"]
        restarts = f", {daemon['restarts']} restarts" if daemon["restarts"] else ""
        table.add_row(daemon["name"], "runs" if daemon["pid"] else "ended", where + restarts)
    for host in told["hosts"]:
        table.add_row(host["name"], host["state"], f"namespace {cloud.namespace(host['name'])}")
    table.add_row("state", "", str(cloud.state_dir))
    Console(soft_wrap=True).print(table)


def welcome(cloud: Cloud) -> str:
    """What `up` says at the end, on stdout."""
    lines = [f"The cloud {cloud.name} is up: {cloud.url}"]
    if cloud.name != DEFAULT_NAME or cloud.settings.port != DEFAULT_PORT:
        lines += ["Type next:", f"  export UCLOUD_API={cloud.url}"]
    else:
        lines += ["Type next:"]
    lines += ["  ucloud host list", "  ucloud image upload NAME FILE", "  ucloud vm create NAME --image IMAGE"]
    lines += [f"  ucloud status{'' if cloud.name == DEFAULT_NAME else f' --name {cloud.name}'}"]
    return "\n".join(lines)


def need_root() -> None:
    if os.geteuid() != 0:
        raise click.ClickException("this works on the machine's network and processes: run it as root, or with sudo")


def say(text: str) -> None:
    click.echo(text, err=True)
