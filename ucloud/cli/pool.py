"""ucloud pool …: one function per verb."""

import click

from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import connect, output_option
from ucloud.cli.output import show_list, show_one

FENCES = ["none", "same-kernel", "command"]
COLUMNS = {
    "NAME": lambda pool: pool["name"],
    "KIND": lambda pool: pool["kind"],
    "SHARED": lambda pool: "yes" if pool["shared"] else "no",
    "FENCE": lambda pool: pool["fence"],
    "PATH": lambda pool: pool["path"],
    "CREATED": lambda pool: pool["created"],
}


@click.group(cls=Noun)
def pool() -> None:
    """Pools: where images and disks lie."""


@pool.command("list")
@output_option
@click.pass_context
def list_(context: click.Context, output: str) -> None:
    """List the pools.

    \b
    Example:
      ucloud pool list
    """
    show_list(list(connect(context).pools()), COLUMNS, output)


@pool.command()
@click.argument("pool", type=Reference("pool"))
@output_option
@click.pass_context
def show(context: click.Context, pool: str, output: str) -> None:
    """Show all about a pool.

    \b
    Example:
      ucloud pool show default
    """
    show_one(connect(context).pool(pool), output)


@pool.command()
@click.argument("name")
@click.option("--path", required=True, metavar="DIR", help="A directory that each host has, empty or yet to be made.")
@click.option("--shared", is_flag=True, help="All hosts have the same files there: VMs of a dead host can run elsewhere.")
@click.option(
    "--fence",
    type=click.Choice(FENCES),
    default="none",
    show_default=True,
    help="What cuts a dead host off a shared pool; none: only `ucloud host fence`.",
)
@output_option
@click.pass_context
def add(context: click.Context, name: str, path: str, shared: bool, fence: str, output: str) -> None:
    """Add a pool: a directory for images and disks.

    \b
    Example:
      ucloud pool add fast --path /srv/ucloud
      ucloud pool add nfs --path /mnt/ucloud --shared --fence command
    """
    show_one(connect(context).create_pool(name, path, shared, fence), output)


@pool.command("set")
@click.argument("pool", type=Reference("pool"))
@click.option("--shared/--local", default=None, help="Whether all hosts have the same files there.")
@click.option("--fence", type=click.Choice(FENCES), help="What cuts a dead host off it.")
@output_option
@click.pass_context
def set_(context: click.Context, pool: str, shared: bool | None, fence: str | None, output: str) -> None:
    """Say how the hosts have a pool; what is not named stays.

    \b
    Example:
      ucloud pool set nfs --fence command
    """
    if shared is None and fence is None:
        raise click.UsageError("say what to change: --shared, --local or --fence")
    show_one(connect(context).set_pool(pool, shared=shared, fence=fence), output)
