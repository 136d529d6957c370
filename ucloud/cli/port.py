"""ucloud vm attach, vm detach."""

import click

from ucloud.cli import progress
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import connect, output_option, wait_options
from ucloud.cli.vmshow import addresses, show_vm


class Allowed(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in later versions of click
    """What a guest may do that others may not: ra, dhcp, or both with a comma."""

    name = "ra,dhcp"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        words = value if isinstance(value, list) else str(value).split(",")
        if not {"ra", "dhcp"}.issuperset(words):
            self.fail(f"{value!r} is not ra, dhcp, or both as in ra,dhcp", param, ctx)
        return list(dict.fromkeys(words))


@click.command(cls=Verb)
@click.argument("vm", type=Reference("vm"))
@click.argument("network", type=Reference("network"))
@click.option("--allow", type=Allowed(), help="What it may do in a private network: advertise routes (ra), answer DHCP (dhcp).")
@wait_options
@output_option
@click.pass_context
def attach(
    context: click.Context, vm: str, network: str, allow: list[str] | None, no_wait: bool, timeout_s: float, output: str
) -> None:
    """Attach a VM to one more network. It need not be stopped: its guest finds a new interface.

    \b
    Example:
      ucloud vm attach web backend
      ucloud vm attach router backend --allow ra,dhcp
    """
    client = connect(context)
    action = client.attach_vm(vm, network, allow or ())
    if not no_wait:
        progress.wait(client, [(vm, action)], timeout_s, f"ucloud vm show {vm}")
    found = client.vm(action["resource"])
    if output != "table":
        show_vm(found, output)
        return
    ports = [port for port in found["ports"] if network in (port["network"], port["network_id"])]
    for port in ports:
        click.echo(f"{found['name']} is on {port['network']}: {', '.join(addresses(port))}")


@click.command(cls=Verb)
@click.argument("vm", type=Reference("vm"))
@click.argument("network", type=Reference("network"))
@wait_options
@output_option
@click.pass_context
def detach(context: click.Context, vm: str, network: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Detach a VM from a network. Its guest loses that interface; its addresses there are free again.

    \b
    Example:
      ucloud vm detach web backend
    """
    client = connect(context)
    action = client.detach_vm(vm, network)
    if not no_wait:
        hint = f"; a guest that does not let go of it does so when it is stopped: ucloud vm stop {vm}"
        progress.wait(client, [(vm, action)], timeout_s, f"ucloud vm show {vm}", hint)
    found = client.vm(action["resource"])
    if output != "table":
        show_vm(found, output)
    else:
        click.echo(f"{found['name']} is {'being detached from' if no_wait else 'no longer on'} {network}")
