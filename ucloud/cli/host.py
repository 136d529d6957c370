"""ucloud host …: one function per verb."""

import click

from ucloud.cli import hostjoin
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import LabelChange, Size, connect, filter_options, output_option
from ucloud.cli.output import show_list, show_one, size
from ucloud.client import Json

COLUMNS = {
    "NAME": lambda host: host["name"],
    "STATE": lambda host: host["state"],
    "VMS": lambda host: host["vms"],
    "CPUS": lambda host: f"{host['cpus_used']}/{host['cpus']}",
    "MEMORY": lambda host: f"{size(host['memory_used_mib'])}/{size(host['memory_mib'])}",
    "ACCEL": lambda host: host["accel"] or "-",
    "ID": lambda host: host["id"],
}


@click.group(cls=Noun)
def host() -> None:
    """Hosts: the machines that carry VMs."""


host.add_command(hostjoin.add)
host.add_command(hostjoin.remove)


@host.command("list")
@filter_options
@output_option
@click.pass_context
def list_(context: click.Context, name: str | None, label: str | None, output: str) -> None:
    """List the hosts, with what is used of them and what there is.

    \b
    Example:
      ucloud host list
      ucloud host list --label rack=r1
    """
    show_list(list(connect(context).hosts(name, label)), COLUMNS, output)


@host.command()
@click.argument("host", type=Reference("host"))
@output_option
@click.pass_context
def show(context: click.Context, host: str, output: str) -> None:
    """Show all about a host.

    \b
    Example:
      ucloud host show h1
    """
    shown = connect(context).host(host)
    show_one(shown | {"fence": fence_text(shown["fence"])} if output == "table" else shown, output)


@host.command()
@click.argument("host", type=Reference("host"))
@output_option
@click.pass_context
def enable(context: click.Context, host: str, output: str) -> None:
    """Let new VMs come to a host.

    \b
    Example:
      ucloud host enable h1
    """
    _show_changed(connect(context).set_host(host, enabled=True), output)


@host.command()
@click.argument("host", type=Reference("host"))
@output_option
@click.pass_context
def disable(context: click.Context, host: str, output: str) -> None:
    """Let no new VM come to a host; those that are there stay.

    \b
    Example:
      ucloud host disable h1
    """
    _show_changed(connect(context).set_host(host, enabled=False), output)


@host.command()
@click.argument("host", type=Reference("host"))
@click.option("--confirm-off", is_flag=True, help="You know that the machine is switched off.")
@output_option
@click.pass_context
def fence(context: click.Context, host: str, confirm_off: bool, output: str) -> None:
    """Give your word that the machine of a dead host is switched off, so that its VMs may run elsewhere.

    Only needed where nothing else makes sure of it: for pools with the fence none, or when a fence command fails. If the
    machine is not off, two guests may write to one disk, and destroy it.

    \b
    Example:
      ucloud host fence h1 --confirm-off
    """
    if not confirm_off:
        raise click.UsageError(f"is the machine of {host} switched off? Only then: ucloud host fence {host} --confirm-off")
    fenced = connect(context).fence_host(host)
    if output == "table":
        click.echo(f"{fenced['name']} counts as switched off: its VMs may run elsewhere")
    else:
        show_one(fenced, output)


@host.command("set")
@click.argument("host", type=Reference("host"))
@click.option("--label", "labels", type=LabelChange(), multiple=True, help="KEY=VALUE sets one, KEY- removes it; repeatable.")
@click.option("--cpus", type=click.IntRange(min=0), help="Cores to use of it; 0: all.")
@click.option("--memory", type=Size(), help="Memory to use of it, with its unit: K, M, G, T.")
@output_option
@click.pass_context
def set_(
    context: click.Context,
    host: str,
    labels: tuple[tuple[str, str | None], ...],
    cpus: int | None,
    memory: int | None,
    output: str,
) -> None:
    """Change what is wanted of a host; what is not named stays.

    \b
    Example:
      ucloud host set h1 --label rack=r1 --label old- --memory 64G
    """
    if not labels and cpus is None and memory is None:
        raise click.UsageError("say what to change: --label, --cpus or --memory")
    changed = connect(context).set_host(host, labels=dict(labels) or None, cpus=cpus, memory_mib=memory)
    show_one(changed, output)


def fence_text(fence: Json | None) -> str:
    """Why it was declared dead, and which pools are safe from it."""
    return f"number {fence['number']}, {fence['phase']} since {fence['since']}: {why_fenced(fence)}" if fence else ""


def why_fenced(fence: Json) -> str:
    safe = [f"pool {pool}: {proof}" for pool, proof in fence["proofs"].items()]
    unsafe = [f"pool {pool} is not safe: {error}" for pool, error in fence["errors"].items()]
    return "; ".join([fence["reason"], *safe, *unsafe])


def _show_changed(host: Json, output: str) -> None:
    if output == "table":
        click.echo(f"{host['name']} is {'enabled' if host['enabled'] else 'disabled'}")
    else:
        show_one(host, output)
