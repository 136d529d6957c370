"""ucloud vm …: one function per verb."""

from typing import Any

import click

from ucloud.cli import progress
from ucloud.cli.console import console
from ucloud.cli.explain import explain
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import Label, Size, change_options, connect, filter_options, output_option, wait_options
from ucloud.cli.output import show_json, show_list, show_names, size
from ucloud.cli.port import attach, detach, show_vm
from ucloud.cli.vmlog import log
from ucloud.client import Client, Json

MAX_COUNT = 100
COLUMNS = {
    "NAME": lambda vm: vm["name"],
    "PHASE": lambda vm: vm["phase"],
    "HOST": lambda vm: vm["host"] or "-",
    "ADDRESS": lambda vm: vm["addresses"][0] if vm["addresses"] else "-",
    "CPUS": lambda vm: vm["cpus"],
    "MEMORY": lambda vm: size(vm["memory_mib"]),
    "DISK": lambda vm: size(vm["disk_mib"]),
    "IMAGE": lambda vm: vm["image"],
    "ID": lambda vm: vm["id"],
}


@click.group(cls=Noun)
def vm() -> None:
    """Virtual machines."""


@vm.command()
@click.argument("name")
@click.option("--image", required=True, type=Reference("image"), help="What its disk is cloned from.")
@click.option("--cpus", type=int, default=1, show_default=True, help="Number of cores.")
@click.option("--memory", type=Size(), default="512M", show_default=True, help="Memory, with its unit: K, M, G, T.")
@click.option("--disk", type=Size(), help="Size of the disk, with its unit.  [default: that of the image]")
@click.option("--host", type=Reference("host"), help="Where it must run: a host, or a label of hosts, as in rack=r1.")
@click.option(
    "--spread",
    metavar="GROUP",
    help="VMs of one group never share a host; GROUP@LABEL: nor hosts with the same value of that label.",
)
@click.option("--label", "labels", type=Label(), multiple=True, help="To find it by; may be repeated.")
@click.option("--pool", type=Reference("pool"), help="Where its disk lies, which can only be where its image lies.")
@click.option(
    "--network",
    "networks",
    type=Reference("network"),
    multiple=True,
    help="To be on; may be repeated.  [default: default, made when first needed]",
)
@click.option("--no-network", is_flag=True, help="On no network: its console alone leads to it.")
@click.option("--count", type=click.IntRange(1, MAX_COUNT), help="Make so many: NAME-1, NAME-2 and so on.")
@wait_options
@output_option
@click.pass_context
def create(
    context: click.Context,
    /,
    name: str,
    labels: tuple[tuple[str, str], ...],
    memory: int,
    disk: int | None,
    networks: tuple[str, ...],
    no_network: bool,
    count: int | None,
    no_wait: bool,
    timeout_s: float,
    output: str,
    **wishes: Any,
) -> None:
    """Make a VM and start it.

    \b
    Example:
      ucloud vm create web --image debian --cpus 2 --memory 1G --disk 10G --label tier=front
      ucloud vm create worker --image debian --count 10 --spread worker --network backend
    """
    if networks and no_network:
        raise click.UsageError("--network and --no-network exclude each other")
    client = connect(context)
    wishes |= {"memory_mib": memory, "disk_mib": disk, "labels": dict(labels)}
    wishes |= {"networks": networks} if networks or no_network else {}
    names = [f"{name}-{number}" for number in range(1, count + 1)] if count else [name]
    made = progress.ask_each(names, lambda name: client.create_vm(name, **wishes))
    vms = [vm for vm, _ in made.values()]
    if not no_wait:
        look = "ucloud vm list" if count else f"ucloud vm show {name}"
        progress.wait(client, [(name, action) for name, (_, action) in made.items()], timeout_s, look)
        vms = [client.vm(vm["id"]) for vm in vms]
    if not count and output == "table":
        _greet(vms[0], no_wait)
    elif count:
        show_list(vms, COLUMNS, output)
    else:
        show_vm(vms[0], output)
    progress.refuse_less(made, names)


def _greet(vm: Json, no_wait: bool) -> None:
    click.echo(f"{vm['name']} is {vm['phase']}: {vm['id']}")
    click.echo(f"Address: {', '.join(vm['addresses']) or 'none, as it is on no network'}")
    click.echo(f"Next: ucloud vm {'show' if no_wait else 'log'} {vm['name']}")


@vm.command("list")
@filter_options
@output_option
@click.pass_context
def list_(context: click.Context, name: str | None, label: str | None, output: str) -> None:
    """List the VMs, oldest first.

    \b
    Example:
      ucloud vm list --label tier=front
    """
    show_list(list(connect(context).vms(name, label)), COLUMNS, output)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@output_option
@click.pass_context
def show(context: click.Context, vm: str, output: str) -> None:
    """Show all about a VM: how it is, why, and what it waits for.

    \b
    Example:
      ucloud vm show web
    """
    show_vm(connect(context).vm(vm), output)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@wait_options
@output_option
@click.pass_context
def start(context: click.Context, vm: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Start a VM that is stopped. One that runs already goes on.

    \b
    Example:
      ucloud vm start web
    """
    client = connect(context)
    _finish(client, vm, client.start_vm(vm), no_wait, timeout_s, output)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@click.option("--force", is_flag=True, help="Cut the power; don't ask the guest to shut down first.")
@wait_options
@output_option
@click.pass_context
def stop(context: click.Context, vm: str, force: bool, no_wait: bool, timeout_s: float, output: str) -> None:
    """Stop a VM: its guest is asked to shut down. Its disk stays.

    A guest that does not react loses its power after 90 s, unless its host is set otherwise; with --force at once.

    \b
    Example:
      ucloud vm stop web
    """
    client = connect(context)
    hint = "" if force else f"; a guest that does not react loses its power after a while, or now: ucloud vm stop {vm} --force"
    _finish(client, vm, client.stop_vm(vm, force), no_wait, timeout_s, output, hint)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@wait_options
@output_option
@click.pass_context
def reboot(context: click.Context, vm: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Reboot a VM: its guest is asked to shut down, then started again.

    \b
    Example:
      ucloud vm reboot web
    """
    client = connect(context)
    hint = f"; a guest that does not react loses its power after a while, or now: ucloud vm reset {vm}"
    _finish(client, vm, client.reboot_vm(vm), no_wait, timeout_s, output, hint)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@wait_options
@output_option
@click.pass_context
def reset(context: click.Context, vm: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Cut a VM's power and start it again, without asking its guest.

    \b
    Example:
      ucloud vm reset web
    """
    client = connect(context)
    _finish(client, vm, client.reset_vm(vm), no_wait, timeout_s, output)


@vm.command()
@click.argument("vm", type=Reference("vm"))
@click.option("--cpus", type=int, help="Number of cores.")
@click.option("--memory", type=Size(), help="Memory, with its unit: K, M, G, T.")
@click.option("--disk", type=Size(), help="Size of the disk, with its unit; it can only grow.")
@wait_options
@output_option
@click.pass_context
def resize(context: click.Context, /, vm: str, no_wait: bool, timeout_s: float, output: str, **size: int | None) -> None:
    """Change the cores, memory or disk of a VM that is stopped. What is not named stays.

    If its host has no room for that now, it waits until there is some; and so does its next start.

    \b
    Example:
      ucloud vm stop web
      ucloud vm resize web --cpus 2 --memory 1G --disk 20G
      ucloud vm start web
    """
    if all(value is None for value in size.values()):
        raise click.UsageError("say what to change: --cpus, --memory or --disk")
    client = connect(context)
    action = client.resize_vm(vm, size["cpus"], size["memory"], size["disk"])
    _finish(client, vm, action, no_wait, timeout_s, output)


@vm.command("set")
@click.argument("vm", type=Reference("vm"))
@change_options
@output_option
@click.pass_context
def set_(
    context: click.Context,
    vm: str,
    settings: tuple[tuple[str, Any], ...],
    name: str | None,
    labels: tuple[tuple[str, str | None], ...],
    output: str,
) -> None:
    """Change a VM's name, labels or settings; what is not named stays. It need not be stopped for that.

    The settings: delete_protection=true refuses to delete it, until that is false again.

    \b
    Example:
      ucloud vm set web --name front --label tier=front --label old-
      ucloud vm set web delete_protection=true
    """
    if not settings and name is None and not labels:
        raise click.UsageError("say what to change: --name, --label, or KEY=VALUE")
    show_vm(connect(context).set_vm(vm, name, dict(labels) if labels else None, **dict(settings)), output)


@vm.command()
@click.argument("vms", metavar="VM...", nargs=-1, required=True, type=Reference("vm"))
@wait_options
@output_option
@click.pass_context
def delete(context: click.Context, vms: tuple[str, ...], no_wait: bool, timeout_s: float, output: str) -> None:
    """Delete VMs and their disks.

    \b
    Example:
      ucloud vm delete web db
    """
    client, names = connect(context), list(dict.fromkeys(vms))
    actions = progress.ask_each(names, client.delete_vm)
    if not no_wait:
        ended = progress.wait(client, list(actions.items()), timeout_s, look="ucloud vm list")
        actions = dict(zip(actions, ended, strict=True))
    _show_deleted(actions, no_wait, output)
    progress.refuse_less(actions, names)


def _show_deleted(actions: dict[str, Json], no_wait: bool, output: str) -> None:
    if output == "json":
        show_json(list(actions.values()))
    elif output == "name":
        show_names([{"name": name} for name in actions])
    else:
        for name in actions:
            click.echo(f"{name} is {'being deleted' if no_wait else 'deleted'}")


def _finish(client: Client, vm: str, action: Json, no_wait: bool, timeout_s: float, output: str, hint: str = "") -> None:
    if not no_wait:
        progress.wait(client, [(vm, action)], timeout_s, f"ucloud vm show {vm}", hint)
    found = client.vm(action["resource"])
    if output != "table":
        show_vm(found, output)
    else:
        click.echo(f"{found['name']} is {found['phase']}")


vm.add_command(attach)
vm.add_command(detach)
vm.add_command(explain)
vm.add_command(log)
vm.add_command(console)
