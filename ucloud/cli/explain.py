"""ucloud vm explain: why a VM is as it is, in words."""

from datetime import datetime

import click

from ucloud.cli.event import COLUMNS
from ucloud.cli.host import why_fenced
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import connect, output_option
from ucloud.cli.output import printable, show_json, show_names, show_pairs, show_table, size
from ucloud.client import Json

SHALL = {"running": "run it", "stopped": "stop it", "absent": "remove it and its disks"}


@click.command(cls=Verb)
@click.argument("vm", type=Reference("vm"))
@output_option
@click.pass_context
def explain(context: click.Context, vm: str, output: str) -> None:
    """Explain why a VM is as it is: what it waits for, who acts next, and what happened so far.

    \b
    Example:
      ucloud vm explain web
    """
    told = connect(context).explain_vm(vm)
    if output == "json":
        show_json(told)
    elif output == "name":
        show_names([told])
    else:
        show(told)


def show(told: Json) -> None:
    """Times are told as what has passed since, until the moment at which the API looked."""
    at = told["at"]
    click.echo(f"{printable(told['summary'])}\n")
    error = [("Last error:", told["status"]["error"])] if told["status"] and told["status"]["error"] else []
    show_pairs(
        [
            ("Wanted:", wanted(told["wanted"], at)),
            ("Placement:", placement(told["placement"], at)),
            ("Manifest:", manifest(told["manifest"])),
            ("Status:", status(told["status"], at)),
            *error,
            *([("Fence:", fence(told["fence"], at))] if told["fence"] else []),
            ("Waits for:", waiting(told["waiting_for"], at)),
        ]
    )
    if told["events"]:
        click.echo()
        show_table([["WHEN", *COLUMNS], *([f"{age(event['time'], at)} ago", *cells(event)] for event in told["events"])])
    if told["advice"]:
        click.echo()
        show_pairs([("" if index else "You can:", advice(item)) for index, item in enumerate(told["advice"])])


def cells(event: Json) -> list[str]:
    return [str(cell(event)) for cell in COLUMNS.values()]


def wanted(vm: Json, at: str) -> str:
    if vm["deleted_at"]:
        return f"gone: it was deleted {age(vm['deleted_at'], at)} ago"
    state = f"running, boot {vm['boots']}" if vm["power"] == "on" else "stopped"
    where = f" on {vm['host']}" if vm["host"] else ""
    group = f", in the group {vm['spread']}" if vm["spread"] else ""
    cores = f"{vm['cpus']} {'core' if vm['cpus'] == 1 else 'cores'}"
    shape = f"{cores}, {size(vm['memory_mib'])} memory, {size(vm['disk_mib'])} disk, image {vm['image']}"
    networks = f", network {' and '.join(vm['networks'])}" if vm["networks"] else ""
    return f"{state}{where}{group}: {shape}{networks}"


def placement(placed: Json | None, at: str) -> str:
    if placed is None:
        return "none yet: the scheduler has not looked at it"
    if not placed["host"]:
        return f"none yet: {placed['reason']}"
    return f"{placed['host']}, epoch {placed['epoch']}, for {age(placed['since'], at)}: {placed['reason']}"


def manifest(told: Json | None) -> str:
    if told is None:
        return "none: no host was told of it"
    boot = f", boot {told['boots']}" if told["want"] == "running" else ""
    current = "made from what is wanted now" if told["is_current"] else "made from what was wanted before"
    return f"{SHALL[told['want']]}{boot}; {current}"


def status(said: Json | None, at: str) -> str:
    if said is None:
        return "none: no host has said anything of it"
    crashes = f"; it crashed {times(said['crashes'])} since it was told to boot" if said["crashes"] else ""
    doubt = "" if said["is_current"] else "; its host has been silent since, so this may not be true any more"
    return f"{said['phase']}, boot {said['boots']}, for {age(said['since'], at)}{crashes}{doubt}"


def fence(shown: Json, at: str) -> str:
    return f"number {shown['number']}, for {age(shown['since'], at)}: {why_fenced(shown)}"


def waiting(wait: Json | None, at: str) -> str:
    if wait is None:
        return "nothing"
    since = f" (for {age(wait['since'], at)})" if wait["since"] else ""
    return f"{wait['what']}{since}; next to act: {wait['who']}"


def advice(item: Json) -> str:
    return f"{item['text']}: {item['command']}" if item["command"] else item["text"]


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def age(time: str, at: str) -> str:
    """How long before `at` that was. Clocks differ a little: what seems to come is now."""
    s = max(0, round((datetime.fromisoformat(at) - datetime.fromisoformat(time)).total_seconds()))
    for unit, length_s in (("days", 2 * 86400), ("h", 2 * 3600), ("min", 120)):
        if s >= length_s:
            return f"{s // (length_s // 2)} {unit}"
    return f"{s} s"
