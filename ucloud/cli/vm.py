"""ucloud vm …: one function per verb."""

import click

from ucloud.base.errors import Conflict, NotFound
from ucloud.cli import progress
from ucloud.cli.options import Label, Size, connect, output_option, wait_options
from ucloud.cli.output import show_json, show_list, show_names, show_one, size
from ucloud.client import Client, Json

COLUMNS = {
    "NAME": lambda vm: vm["name"],
    "PHASE": lambda vm: vm["phase"],
    "HOST": lambda vm: vm["host"] or "-",
    "CPUS": lambda vm: vm["cpus"],
    "MEMORY": lambda vm: size(vm["memory_mib"]),
    "DISK": lambda vm: size(vm["disk_mib"]),
    "IMAGE": lambda vm: vm["image"],
    "ID": lambda vm: vm["id"],
}


@click.group()
def vm() -> None:
    """Virtual machines."""


@vm.command()
@click.argument("name")
@click.option("--image", required=True, metavar="IMAGE", help="What its disk is cloned from.")
@click.option("--cpus", type=int, default=1, show_default=True, help="Number of cores.")
@click.option("--memory", type=Size(), default="512M", show_default=True, help="Memory, with its unit: K, M, G, T.")
@click.option("--disk", type=Size(), help="Size of the disk, with its unit.  [default: that of the image]")
@click.option("--host", metavar="HOST", help="Where it must run: a host, or a label of hosts, as in rack=r1.")
@click.option(
    "--spread",
    metavar="GROUP",
    help="VMs of one group never share a host; GROUP@LABEL: nor hosts with the same value of that label.",
)
@click.option("--label", "labels", type=Label(), multiple=True, help="To find it by; may be repeated.")
@wait_options
@output_option
@click.pass_context
def create(
    context: click.Context,
    name: str,
    image: str,
    cpus: int,
    memory: int,
    disk: int | None,
    host: str | None,
    spread: str | None,
    labels: tuple[tuple[str, str], ...],
    no_wait: bool,
    timeout_s: float,
    output: str,
) -> None:
    """Make a VM and start it.

    \b
    Example:
      ucloud vm create web --image debian --cpus 2 --memory 1G --disk 10G --label tier=front
    """
    client = connect(context)
    made, action = client.create_vm(name, image, cpus, memory, disk, dict(labels), host, spread)
    if not no_wait:
        progress.wait(client, [(name, action)], timeout_s, look=f"ucloud vm show {name}")
        made = client.vm(made["id"])
    if output != "table":
        show_one(made, output)
        return
    click.echo(f"{name} is {made['phase']}: {made['id']}")
    click.echo(f"Next: ucloud vm {'show' if no_wait else 'log'} {name}")


@vm.command("list")
@click.option("--name", help="Only the one with this name.")
@click.option("--label", metavar="KEY[=VALUE]", help="Only those with this label.")
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
@click.argument("vm")
@output_option
@click.pass_context
def show(context: click.Context, vm: str, output: str) -> None:
    """Show all about a VM: how it is, why, and what it waits for.

    \b
    Example:
      ucloud vm show web
    """
    show_one(connect(context).vm(vm), output)


@vm.command()
@click.argument("vm")
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
@click.argument("vm")
@click.option("--force", is_flag=True, help="Cut the power; don't ask the guest to shut down first.")
@wait_options
@output_option
@click.pass_context
def stop(context: click.Context, vm: str, force: bool, no_wait: bool, timeout_s: float, output: str) -> None:
    """Stop a VM: its guest is asked to shut down. Its disk stays.

    \b
    Example:
      ucloud vm stop web
    """
    client = connect(context)
    _finish(client, vm, client.stop_vm(vm, force), no_wait, timeout_s, output)


@vm.command()
@click.argument("vm")
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
    _finish(client, vm, client.reboot_vm(vm), no_wait, timeout_s, output)


@vm.command()
@click.argument("vm")
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
@click.argument("vms", metavar="VM...", nargs=-1, required=True)
@wait_options
@output_option
@click.pass_context
def delete(context: click.Context, vms: tuple[str, ...], no_wait: bool, timeout_s: float, output: str) -> None:
    """Delete VMs and their disks.

    \b
    Example:
      ucloud vm delete web db
    """
    client, actions = connect(context), list[tuple[str, Json]]()
    for name in dict.fromkeys(vms):
        try:
            actions.append((name, client.delete_vm(name)))
        except (NotFound, Conflict) as error:
            if len(vms) == 1:
                raise
            click.echo(f"Error: {error.message}", err=True)
    if not no_wait:
        progress.wait(client, actions, timeout_s, look="ucloud vm list")
    _show_deleted(actions, no_wait, output)
    if len(actions) < len(set(vms)):
        raise progress.Failed("not all of them were deleted")


def _show_deleted(actions: list[tuple[str, Json]], no_wait: bool, output: str) -> None:
    if output == "json":
        show_json([action for _, action in actions])
    elif output == "name":
        show_names([{"name": name} for name, _ in actions])
    else:
        for name, _ in actions:
            click.echo(f"{name} is {'being deleted' if no_wait else 'deleted'}")


@vm.command()
@click.argument("vm")
@click.pass_context
def log(context: click.Context, vm: str) -> None:
    """Print what a VM's guest wrote to its serial line.

    Byte by byte as it came, of all its boots; of a long log the end.

    \b
    Example:
      ucloud vm log web
    """
    data, truncated = connect(context).vm_log(vm)
    if truncated:
        click.echo("(older parts of the log are gone)", err=True)
    click.echo(data, nl=False)


def _finish(client: Client, vm: str, action: Json, no_wait: bool, timeout_s: float, output: str) -> None:
    if not no_wait:
        progress.wait(client, [(vm, action)], timeout_s, look=f"ucloud vm show {vm}")
    found = client.vm(action["resource"])
    if output != "table":
        show_one(found, output)
    else:
        click.echo(f"{found['name']} is {found['phase']}")
