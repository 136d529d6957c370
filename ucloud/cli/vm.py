"""ucloud vm …: one function per verb."""

import click

from ucloud.cli import progress
from ucloud.cli.console import console
from ucloud.cli.explain import explain
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import Size, connect, filter_options, output_option, wait_options
from ucloud.cli.output import show_json, show_list, show_names
from ucloud.cli.port import attach, detach
from ucloud.cli.ssh import ssh
from ucloud.cli.vmcreate import create
from ucloud.cli.vmlog import log
from ucloud.cli.vmset import set_
from ucloud.cli.vmshow import COLUMNS, show_vm
from ucloud.client import Client, Json


@click.group(cls=Noun)
def vm() -> None:
    """Virtual machines."""


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


for command in (create, set_, attach, detach, explain, log, console, ssh):
    vm.add_command(command)
