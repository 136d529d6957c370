"""ucloud vm ssh: log in to a VM as soon as that is possible, with OpenSSH's own client."""

import os
import re
import shlex
import shutil
import socket
import time
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

import click

from ucloud.base.errors import Conflict, Error, Temporary
from ucloud.cli import foreground, hostkeys, progress
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import connect, timeout_option
from ucloud.cli.output import printable
from ucloud.cli.progress import Failed, Interrupted
from ucloud.cli.together import Tell
from ucloud.client import Client, Json, TimedOut

PORT = 22
PAUSE_S = 0.2
CONNECT_S, LONG_CONNECT_S = 0.5, 3.0  # who is away says nothing; who is far needs longer
REPORT_S = 10.0  # cloud-init reports host keys after ssh has begun to answer
SSH_FAILED = 255
USER = re.compile("[a-z_][a-z0-9_-]{0,31}")  # of an image


class Guest(NamedTuple):
    """A VM whose ssh answers at this address. reach: what is to be known of the address."""

    vm: Json
    address: str
    reach: str


class HostKeys(NamedTuple):
    file: Path
    are_reported: bool
    are_known: bool


@click.command(cls=Verb)
@click.argument("vm", type=Reference("vm"))
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--identity",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The private key to use.  [default: as ssh chooses]",
)
@click.option("--user", help="As whom.  [default: as the VM's image is set]")
@timeout_option
@click.pass_context
def ssh(
    context: click.Context, vm: str, words: tuple[str, ...], identity: str | None, user: str | None, timeout_s: float
) -> None:
    """Log in to a VM by ssh, or run a command there, as soon as it answers.

    What comes after -- is given to ssh: a command, or options of ssh's own before it. The exit code is that of ssh.

    The guest must show a host key that it reported on its serial line, as cloud-init does; of a guest that reports none, the
    key that it shows first is remembered, and must be the same later.

    \b
    Example:
      ucloud vm ssh web
      ucloud vm ssh web --identity ~/.ssh/work -- uptime
      ucloud vm ssh web -- -L 8080:localhost:80
    """
    program = shutil.which("ssh")
    if program is None:
        raise Error("there is no ssh here: install OpenSSH's client (in Debian: apt install openssh-client)")
    client = connect(context)
    try:
        with progress.telling() as tell:
            guest = _await_ssh(client, vm, time.monotonic() + timeout_s, tell)
            known = _host_keys(client, guest.vm, tell)
    except KeyboardInterrupt:
        raise Interrupted(f"{vm}: no longer waiting for ssh to answer") from None
    except TimedOut as error:
        raise TimedOut(f"after {timeout_s:g} s {error.message}") from None
    _refuse_odd(guest)
    user = user or guest.vm["user"]
    if not known.are_known:
        said = f"{guest.vm['name']} has reported no host keys: the one that it shows now is remembered"
        click.echo(printable(said), err=True)
    command = _command(guest, user, known, identity, words)
    status, said = foreground.run([program, *command])
    for line in _hints(said, guest, user, known) if status == SSH_FAILED else ():
        click.echo(printable(line), err=True)
    context.exit(status)


def _await_ssh(client: Client, reference: str, until_s: float, tell: Tell) -> Guest:
    """Raises Conflict and Failed where waiting is no use; TimedOut, whose message says what is the matter."""
    address, reach, attempts, why = "", "", 0, ""
    while True:
        vm = client.vm(reference)
        reference = vm["id"]  # another one of that name is not meant
        _refuse_vain(vm)
        if not address:
            address, reach = _address(client, vm)
        if vm["phase"] in ("running", "unknown"):
            attempts += 1
            why = _refusal(address, LONG_CONNECT_S if attempts % 4 == 0 else CONNECT_S)
            if not why:
                return Guest(vm, address, reach)
            waits_for = f"for ssh to answer at {address}{reach}"
        else:
            waits_for, why = f"for {vm['waiting_for']['what'] if vm['waiting_for'] else 'it to run'}", vm["phase"]
        tell(f"{vm['name']}: {vm['phase']}: waiting {waits_for}")
        if time.monotonic() > until_s:
            raise TimedOut(f"{vm['name']} is still waited {waits_for} ({why}); look at: ucloud vm log {vm['name']}")
        time.sleep(PAUSE_S)


def _refuse_vain(vm: Json) -> None:
    name, phase = vm["name"], vm["phase"]
    if phase == "deleting":
        raise Conflict(f"{name} is being deleted")
    if phase == "stopped" or vm["power"] == "off":
        raise Conflict(f"{name} is {phase}; start it by: ucloud vm start {name}")
    if phase == "failed":
        raise Failed(f"{name} does not run: {vm['error'] or vm['reason']}; see: ucloud vm explain {name}")
    if not vm["ports"]:
        raise Conflict(f"{name} is on no network; its serial line leads to it: ucloud vm console {name}")


def _address(client: Client, vm: Json) -> tuple[str, str]:
    """One that is reached from everywhere, if there is one; and words about one that is not."""
    for port in vm["ports"]:
        if client.network(port["network_id"])["public"]:
            return port["ipv6"], ""
    port = vm["ports"][0]
    return port["ipv6"], f" (of {port['network']}, a private network, which hosts of this cloud and VMs on it reach)"


def _refusal(address: str, patience_s: float) -> str:
    """Why nothing takes connections there yet, or nothing."""
    try:
        with socket.create_connection((address, PORT), patience_s):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _host_keys(client: Client, vm: Json, tell: Tell) -> HostKeys:
    """What it reported takes the place of what was remembered: guests that are made anew have new host keys. Raises Temporary
    where nothing is remembered, and it is not known if it reported any: who keeps us from its log may answer in its place."""
    file, until_s = hostkeys.file_of(vm["id"], os.environ), time.monotonic() + REPORT_S
    while True:
        keys, why = [], ""
        try:
            keys = hostkeys.reported(client.vm_log(vm["id"])[0])
        except Temporary as error:  # its host cannot say now what the log is
            why = error.message
        if keys:
            hostkeys.remember(file, vm["id"], keys)
        if keys or file.exists() or (time.monotonic() > until_s and not why):
            return HostKeys(file, bool(keys), file.exists())
        if time.monotonic() > until_s:
            raise Temporary(f"which host keys {vm['name']} reported cannot be known now: {why}")
        tell(f"{vm['name']}: waiting for it to report its host keys")
        time.sleep(PAUSE_S)


def _refuse_odd(guest: Guest) -> None:
    """An API that was taken over must not give ssh an option for an address, or anything that a configuration of ssh hands to
    a shell (%h, %r)."""
    with suppress(ValueError):
        if IPv6Address(guest.address).scope_id is None and USER.fullmatch(guest.vm["user"]):
            return
    raise Error(f"what the API answers is not understood: {guest.vm['user']!r} at {guest.address!r}")


def _command(guest: Guest, user: str, known: HostKeys, identity: str | None, words: tuple[str, ...]) -> list[str]:
    """ssh's arguments. Of options that are given twice ssh takes the first."""
    file = str(known.file).replace("%", "%%")
    options = [
        f"HostKeyAlias={guest.vm['id']}",
        f'UserKnownHostsFile="{file}"',
        f"StrictHostKeyChecking={'yes' if known.are_known else 'accept-new'}",
        *(["IdentitiesOnly=yes"] if identity else []),
    ]
    chosen = [word for option in options for word in ("-o", option)]
    return [*chosen, *(["-i", identity] if identity else []), "-l", user, guest.address, *words]


def _hints(said: str, guest: Guest, user: str, known: HostKeys) -> list[str]:
    """What to do about what ssh said last."""
    name, keys = guest.vm["name"], ", ".join(guest.vm["keys"])
    if "Permission denied (" in said:
        lets_in = f"the keys {keys} for {guest.vm['user']}" if keys else "no key"
        advice = f"Add a key: ucloud vm set {name} --key KEY"
        if keys and user != guest.vm["user"]:
            advice = "Try without --user."
        elif keys:
            advice = f"Use another private key by --identity FILE. {advice}"
        return [f"{name} was told to let in {lets_in}; you tried to be {user}. {advice}"]
    if "Host key verification failed" in said and known.are_reported:
        return [
            f"What answers at {guest.address} has another host key than {name} reported on its serial line: it is not"
            f" {name}, or somebody there has changed its keys since. Its serial line: ucloud vm console {name}"
        ]
    if "Host key verification failed" in said:
        return [
            f"What answers at {guest.address} has another host key than before: it is not {name}, or somebody there has changed"
            f" its keys. If you know of that, forget the former one: rm {shlex.quote(str(known.file))}"
        ]
    return []
