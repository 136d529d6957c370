"""ucloud host …: one function per verb."""

import click

from ucloud.cli.options import connect, output_option
from ucloud.cli.output import show_list, show_one, size

COLUMNS = {
    "NAME": lambda host: host["name"],
    "STATE": lambda host: host["state"],
    "VMS": lambda host: host["vms"],
    "CPUS": lambda host: f"{host['cpus_used']}/{host['cpus']}",
    "MEMORY": lambda host: f"{size(host['memory_used_mib'])}/{size(host['memory_mib'])}",
    "ACCEL": lambda host: host["accel"] or "-",
    "ID": lambda host: host["id"],
}


@click.group()
def host() -> None:
    """Hosts: the machines that carry VMs."""


@host.command("list")
@output_option
@click.pass_context
def list_(context: click.Context, output: str) -> None:
    """List the hosts, with what is used of them and what there is.

    \b
    Example:
      ucloud host list
    """
    show_list(list(connect(context).hosts()), COLUMNS, output)


@host.command()
@click.argument("host")
@output_option
@click.pass_context
def show(context: click.Context, host: str, output: str) -> None:
    """Show all about a host.

    \b
    Example:
      ucloud host show h1
    """
    show_one(connect(context).host(host), output)
