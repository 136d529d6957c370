"""ucloud pool …: one function per verb."""

import click

from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import connect, output_option
from ucloud.cli.output import show_list, show_one

COLUMNS = {
    "NAME": lambda pool: pool["name"],
    "KIND": lambda pool: pool["kind"],
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
@output_option
@click.pass_context
def add(context: click.Context, name: str, path: str, output: str) -> None:
    """Add a pool: a directory for images and disks.

    \b
    Example:
      ucloud pool add fast --path /srv/ucloud
    """
    show_one(connect(context).create_pool(name, path), output)
