"""ucloud vm create."""

from typing import Any

import click

from ucloud.cli import progress
from ucloud.cli.contents import USER_DATA
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import Label, Size, connect, output_option, wait_options
from ucloud.cli.output import show_list
from ucloud.cli.vmshow import COLUMNS, show_vm
from ucloud.client import Json

MAX_COUNT = 100


@click.command(cls=Verb)
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
@click.option(
    "--ha",
    type=click.Choice(["restart", "never"]),
    default="restart",
    show_default=True,
    help="What becomes of it when its host dies: it is restarted elsewhere, or waits for that host.",
)
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high"]),
    default="normal",
    show_default=True,
    help="Whose turn it is first when many VMs need a host.",
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
@click.option(
    "--key",
    "keys",
    type=Reference("key"),
    multiple=True,
    help="Lets its owner in; may be repeated.  [default: the default key, if there is one]",
)
@click.option("--no-key", is_flag=True, help="Lets nobody in by a key.")
@click.option("--user-data", type=USER_DATA, help="What cloud-init does at its first start: a script, for one; - for stdin.")
@click.option(
    "--metadata",
    type=Label(),
    multiple=True,
    help="What else its guest shall know, at http://metadata/custom/KEY; may be repeated.",
)
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
    keys: tuple[str, ...],
    no_key: bool,
    metadata: tuple[tuple[str, str], ...],
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
      ucloud vm create db --image debian --key me --key alice --user-data setup.sh --metadata role=database
    """
    if networks and no_network:
        raise click.UsageError("--network and --no-network exclude each other")
    if keys and no_key:
        raise click.UsageError("--key and --no-key exclude each other")
    client = connect(context)
    wishes |= {"memory_mib": memory, "disk_mib": disk, "labels": dict(labels), "metadata": dict(metadata)}
    wishes |= {"networks": networks} if networks or no_network else {}
    wishes |= {"keys": keys} if keys or no_key else {}
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
    verb = "ssh" if vm["keys"] and vm["addresses"] else "show" if no_wait else "log"
    click.echo(f"Next: ucloud vm {verb} {vm['name']}")
