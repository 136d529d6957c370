"""ucloud key …: one function per verb."""

from typing import Any

import click

from ucloud.cli.contents import PUBLIC_KEY
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import Label, Setting, change_options, connect, filter_options, output_option
from ucloud.cli.output import show_list, show_one

SETTINGS = {"default": {"true": True, "false": False}}
COLUMNS = {
    "NAME": lambda key: key["name"],
    "TYPE": lambda key: key["type"],
    "BITS": lambda key: key["bits"],
    "DEFAULT": lambda key: "yes" if key["default"] else "-",
    "VMS": lambda key: key["vms"],
    "FINGERPRINT": lambda key: key["fingerprint"],
    "ID": lambda key: key["id"],
}


@click.group(cls=Noun)
def key() -> None:
    """SSH keys: who may log in to VMs."""


@key.command()
@click.argument("name")
@click.option("--file", "line", required=True, type=PUBLIC_KEY, help="The public part, which ends in .pub; - for stdin.")
@click.option("--default", is_flag=True, help="VMs that are made without --key get it, from now on.")
@click.option("--label", "labels", type=Label(), multiple=True, help="To find it by; may be repeated.")
@output_option
@click.pass_context
def add(context: click.Context, name: str, line: str, default: bool, labels: tuple[tuple[str, str], ...], output: str) -> None:
    """Add an SSH key, for VMs that name it.

    `ssh-keygen -t ed25519` makes one. Of its two files only the one that ends in .pub is for others.

    \b
    Example:
      ucloud key add me --file ~/.ssh/id_ed25519.pub
    """
    made = connect(context).create_key(name, line, dict(labels), default or None)
    if output != "table":
        show_one(made, output)
        return
    click.echo(f"{made['name']} is a key of {made['bits']} bits: {made['fingerprint']}")
    click.echo(f"Next: ucloud vm create NAME --image IMAGE{'' if default else ' --key ' + made['name']}")


@key.command("list")
@filter_options
@output_option
@click.pass_context
def list_(context: click.Context, name: str | None, label: str | None, output: str) -> None:
    """List the keys, oldest first, and how many VMs have each.

    \b
    Example:
      ucloud key list
    """
    show_list(list(connect(context).keys(name, label)), COLUMNS, output)


@key.command()
@click.argument("key", type=Reference("key"))
@output_option
@click.pass_context
def show(context: click.Context, key: str, output: str) -> None:
    """Show all about a key.

    \b
    Example:
      ucloud key show me
    """
    show_one(connect(context).key(key), output)


@key.command("set")
@click.argument("key", type=Reference("key"))
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1, type=Setting(SETTINGS))
@change_options
@output_option
@click.pass_context
def set_(
    context: click.Context,
    key: str,
    settings: tuple[tuple[str, Any], ...],
    name: str | None,
    labels: tuple[tuple[str, str | None], ...],
    output: str,
) -> None:
    """Change a key's name, labels or settings; what is not named stays.

    The settings: default=true makes it the one that VMs get that are made without --key; another is it no longer.

    \b
    Example:
      ucloud key set me default=true
    """
    if not settings and name is None and not labels:
        raise click.UsageError("say what to change: --name, --label, or KEY=VALUE")
    show_one(connect(context).set_key(key, name, dict(labels) if labels else None, **dict(settings)), output)


@key.command()
@click.argument("key", type=Reference("key"))
@output_option
@click.pass_context
def delete(context: click.Context, key: str, output: str) -> None:
    """Delete a key that no VM has.

    \b
    Example:
      ucloud key delete me
    """
    client = connect(context)
    found = client.key(key)
    client.delete_key(found["id"])
    if output != "table":
        show_one(found, output)
    else:
        click.echo(f"{found['name']} is deleted")
