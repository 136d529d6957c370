"""ucloud cluster …: the cloud as a whole."""

import click

from ucloud.cli.noun import Noun
from ucloud.cli.options import connect, output_option
from ucloud.cli.output import bytes_size, show_json, show_names, show_pairs
from ucloud.client import Json


@click.group(cls=Noun)
def cluster() -> None:
    """The cloud as a whole."""


@cluster.command()
@output_option
@click.pass_context
def show(context: click.Context, output: str) -> None:
    """Show how the cloud is. Exits with 1 when something needs somebody, and says what to do.

    \b
    Example:
      ucloud cluster show
    """
    shown = connect(context).cluster()
    if output == "json":
        show_json(shown)
    elif output == "name":
        show_names([{"name": finding["what"]} for finding in shown["findings"]])
    else:
        show_cluster(shown)
    if shown["findings"]:
        context.exit(1)


@cluster.command()
@click.option("--reason", default="", help="For those who wonder why.")
@click.pass_context
def disarm(context: click.Context, reason: str) -> None:
    """Declare no silent host dead, for as long as you work on switches and power lines.

    \b
    Example:
      ucloud cluster disarm --reason "moving rack 3"
    """
    connect(context).arm(False, reason)
    click.echo("Disarmed: VMs of hosts that fall silent wait, until: ucloud cluster arm")


@cluster.command()
@click.pass_context
def arm(context: click.Context) -> None:
    """Declare silent hosts dead again, and restart their VMs elsewhere.

    \b
    Example:
      ucloud cluster arm
    """
    connect(context).arm()
    click.echo("Armed: VMs of hosts that fall silent are restarted elsewhere")


def show_cluster(shown: Json) -> None:
    counted, leaders = shown["counted"], shown["leaders"]
    pairs = [("etcd:", "; ".join(map(member, shown["etcd"])))]
    if leaders:
        pairs.append(("Leaders:", "; ".join(f"{loop}: {owner or 'nobody'}" for loop, owner in leaders.items())))
    if counted:
        pairs.append(("Failover:", failover(counted)))
        pairs += [
            ("Hosts:", numbers(counted["hosts"])),
            ("Pools:", ", ".join(counted["pools"]) or "none"),
            ("Images:", numbers(counted["images"])),
            ("Networks:", numbers(counted["networks"])),
            ("VMs:", numbers(counted["vms"])),
        ]
        pairs += [("Waiting:" if index == 0 else "", waiting(group)) for index, group in enumerate(counted["waiting"])]
    show_pairs(pairs)
    click.echo()
    if not shown["findings"]:
        click.echo("All is well.")
        return
    count = len(shown["findings"])
    click.echo(f"{count} {'thing needs' if count == 1 else 'things need'} somebody:")
    for number, finding in enumerate(shown["findings"], 1):
        show_pairs([(f"{number}.", finding["what"]), ("", f"{finding['advice']}: {finding['command']}")])


def failover(counted: Json) -> str:
    if counted["disarmed"] is not None:
        return "disarmed" + (f": {counted['disarmed']}" if counted["disarmed"] else "")
    return f"armed, but held: {counted['held']}" if counted["held"] else "armed"


def member(of_etcd: Json) -> str:
    if not of_etcd["answers"]:
        return f"{of_etcd['name']} does not answer"
    quota = f" of {bytes_size(of_etcd['quota_bytes'])}" if of_etcd["quota_bytes"] else ""
    role = " leads" if of_etcd["leads"] else ""
    return f"{of_etcd['name']}{role} ({bytes_size(of_etcd['db_bytes'])}{quota})"


def numbers(by_state: Json) -> str:
    return ", ".join(f"{number} {state}" for state, number in by_state.items()) or "none"


def waiting(group: Json) -> str:
    return f"{group['vms']} for {group['what']}; next to act: {group['who']}"
