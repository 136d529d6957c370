"""ucloud vm log: what a VM's guest wrote to its serial line, so far or for as long as one likes."""

from contextlib import suppress

import click

from ucloud.cli.names import Reference
from ucloud.cli.notices import trying_again
from ucloud.cli.options import connect
from ucloud.cli.output import GuestOutput


@click.command()
@click.argument("vm", type=Reference("vm"))
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, through all reboots, until Ctrl-C.")
@click.pass_context
def log(context: click.Context, vm: str, follow: bool) -> None:
    """Print what a VM's guest wrote to its serial line.

    Byte by byte as it came, of all its boots; of a long log the end.

    \b
    Example:
      ucloud vm log web
      ucloud vm log -f web
    """
    client, shown = connect(context), GuestOutput()
    if follow:
        with suppress(KeyboardInterrupt):
            for piece in client.follow_log(vm, on_trouble=trying_again):
                shown.show(piece)
        return
    data, truncated = client.vm_log(vm)
    if truncated:
        click.echo("(older parts of the log are gone)", err=True)
    shown.show(data)
