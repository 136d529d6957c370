"""ucloud network …: one function per verb."""

import click

from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import Label, connect, filter_options, output_option
from ucloud.cli.output import show_list, show_one, show_table
from ucloud.client import Json

COLUMNS = {
    "NAME": lambda network: network["name"],
    "KIND": lambda network: kind(network),
    "IPV6": lambda network: network["ipv6"],
    "IPV4": lambda network: network["ipv4"] or "-",
    "VMS": lambda network: network["vms"],
    "ID": lambda network: network["id"],
}


def kind(network: Json) -> str:
    return "public" if network["public"] else "private"


@click.group(cls=Noun)
def network() -> None:
    """Networks: VMs on one reach each other, on whichever hosts they are."""


@network.command()
@click.argument("name")
@click.option("--public", is_flag=True, help="Its VMs are reached from outside, by IPv6; else nothing leaves it.")
@click.option("--prefix", "ipv6", metavar="PREFIX", help="IPv6 prefix of 64 bits.  [default: one that is free]")
@click.option("--ipv4", metavar="RANGE", help="Private IPv4 range, as 10.1.0.0/24; not with --public.")
@click.option(
    "--slaac/--no-slaac",
    default=None,
    help="Guests without DHCPv6 make their address themselves, the same one.  [default: as this cloud is set]",
)
@click.option("--label", "labels", type=Label(), multiple=True, help="To find it by; may be repeated.")
@output_option
@click.pass_context
def create(
    context: click.Context,
    name: str,
    public: bool,
    ipv6: str | None,
    ipv4: str | None,
    slaac: bool | None,
    labels: tuple[tuple[str, str], ...],
    output: str,
) -> None:
    """Make a network, for VMs to be created on or attached to.

    \b
    Example:
      ucloud network create backend
      ucloud network create office --ipv4 10.1.0.0/24
      ucloud network create web --public
    """
    made = connect(context).create_network(name, public or None, ipv6, ipv4, slaac, dict(labels))
    if output != "table":
        show_one(made, output)
        return
    ranges = made["ipv6"] + (f", {made['ipv4']}" if made["ipv4"] else "")
    click.echo(f"{made['name']} is a {kind(made)} network: {made['id']}")
    click.echo(f"Addresses: {ranges}")
    click.echo(f"Next: ucloud vm create NAME --image IMAGE --network {made['name']}")


@network.command("list")
@filter_options
@output_option
@click.pass_context
def list_(context: click.Context, name: str | None, label: str | None, output: str) -> None:
    """List the networks, oldest first, and how many VMs are on each.

    \b
    Example:
      ucloud network list
    """
    show_list(list(connect(context).networks(name, label)), COLUMNS, output)


@network.command()
@click.argument("network", type=Reference("network"))
@output_option
@click.pass_context
def show(context: click.Context, network: str, output: str) -> None:
    """Show all about a network, and who is on it.

    \b
    Example:
      ucloud network show backend
    """
    found = connect(context).network(network)
    if output != "table":
        show_one(found, output)
        return
    members = found.pop("members")
    show_one(found, output)
    if members:
        click.echo()
        show_table([["VM", "ADDRESS", "MAC", "MAY"], *map(_row, members)])
    if len(members) < found["vms"]:
        click.echo(f"… and {found['vms'] - len(members)} more")


def _row(member: Json) -> list[str]:
    addresses = " ".join(filter(None, (member["ipv6"], member["ipv4"])))
    return [member["vm"], addresses, member["mac"], ", ".join(member["allow"]) or "-"]


@network.command()
@click.argument("network", type=Reference("network"))
@output_option
@click.pass_context
def delete(context: click.Context, network: str, output: str) -> None:
    """Delete a network that no VM is on.

    \b
    Example:
      ucloud network delete backend
    """
    client = connect(context)
    found = client.network(network)
    client.delete_network(found["id"])
    if output != "table":
        show_one(found, output)
    else:
        click.echo(f"{found['name']} is deleted")
