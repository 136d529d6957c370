"""ucloud host add, remove: how machines become hosts of the cloud, and stop being it. `host join` runs daemons, and is in
`ucloud.daemon.join`."""

import time

import click

from ucloud.base.errors import NotFound
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import connect, report_option, timeout_option
from ucloud.cli.output import show_one
from ucloud.client import Client, TimedOut

LOOK_S = 0.2


@click.command(cls=Verb)
@click.argument("name")
@report_option
@click.pass_context
def add(context: click.Context, name: str, output: str) -> None:
    """Let one machine join as a host of this name, within an hour.

    \b
    Example:
      ucloud host add h4
    """
    made = connect(context).add_host(name)
    if output == "json":
        show_one(made, output)
        return
    click.echo(f"{name} may join until {made['expires']}. Run there, as root:", err=True)
    if not made["url"]:
        click.echo("(URL: of this API, as that machine reaches it; see [api] listen in `ucloud help config`)", err=True)
    click.echo(f"ucloud host join {made['url'] or 'URL'} {made['token']}")


@click.command(cls=Verb)
@click.argument("host", type=Reference("host"))
@click.option("--lost", is_flag=True, help="It never comes back: you know that its machine is switched off for good.")
@timeout_option
@click.pass_context
def remove(context: click.Context, host: str, lost: bool, timeout_s: float) -> None:
    """Remove a host that is down and has no VMs.

    With --lost also one that has: its VMs with disks in shared pools run elsewhere, those whose disks only it had are failed,
    their disks lost. A machine that joins again is a new host.

    \b
    Example:
      ucloud host remove h4
    """
    api = connect(context)
    id = api.remove_host(host, lost)
    await_gone(api, id, timeout_s)
    click.echo(f"{host} is removed")


def await_gone(api: Client, id: str, timeout_s: float) -> None:
    """Raises TimedOut."""
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            host = api.host(id)
        except NotFound:
            return
        if time.monotonic() > until_s:
            raise TimedOut(f"{host['name']} is still there: it has {host['vms']} VMs; it goes when the last one has gone")
        time.sleep(LOOK_S)
