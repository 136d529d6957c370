"""`ucloud host join`: makes this machine a host of a cloud.

In this order: what can be refused is refused; then the token is given for an id and the settings that all hosts have in common;
then the settings are written, and the daemons started. Wherever it breaks off, the same command goes on: an attempt has a
number, kept in the state directory until the host is up, and the API gives whoever shows it what its token was worth.
"""

import hashlib
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
from msgspec.structs import replace

from ucloud.base import config
from ucloud.base.config import Config, to_toml
from ucloud.base.errors import Conflict, Error, Invalid, Temporary
from ucloud.cli.noun import Verb
from ucloud.client import Client, Unreachable
from ucloud.daemon import logfile, node, systemd
from ucloud.daemon.bringup import PROGRAMS, check_programs
from ucloud.daemon.cloud import replace_file
from ucloud.daemon.process import take_lock
from ucloud.daemon.teardown import find
from ucloud.daemon.up import need_root, say

READY_S = 60.0
LOOK_S = 0.1
ATTEMPT = "join.attempt"  # in the state directory
AGAIN = "run the same command again (the token is good for this machine until it is a host)"


@click.command(cls=Verb)
@click.argument("url")
@click.argument("token")
@click.option("--address", help="Of this machine, on the hosts' own network.  [default: the one that leads to URL]")
@click.option(
    "--config", "path", metavar="FILE", default=config.DEFAULT_PATH, show_default=True, help="Where settings are kept."
)
@click.option("--force", is_flag=True, help="Join though the settings name a host that this machine was before.")
def join(url: str, token: str, address: str | None, path: str, force: bool) -> None:
    """Make this machine a host. To be run on it, as root, with what `ucloud host add` has answered.

    What this machine says of itself in FILE, or in variables such as UCLOUD_HOST_ACCEL, is kept. Its daemons run from now on:
    by systemd where that runs, else in the background.

    \b
    Example:
      ucloud host join http://[fd00::1]:8642 kO3…
    """
    need_root()
    check_programs({program: package for program, package in PROGRAMS.items() if program != "etcd"})
    file = Path(path).absolute()
    if not config.is_endpoint(url):
        raise Invalid(f"{url}: expected the URL that `ucloud host add` has printed, such as http://[fd00::1]:8642")
    own, address = own_settings(file, force), address or address_towards(url)
    refuse_foreign(address)
    with Client([url]) as api:
        say("joining")
        joined = use(api, url, token, address, attempt(own))
        settings = settled(own, joined, address)
        write(file, settings)
        say(f"starting the daemons of {joined['name']} ({joined['id']})")
        start(file, settings)
        await_up(api, settings)
    attempt_file(own).unlink()
    click.echo(f"{joined['name']} is up")


def own_settings(file: Path, force: bool) -> Config:
    """Raises Conflict where this machine is a host already."""
    own = config.load(str(file) if file.exists() else os.devnull)
    if own.host.id and not force and not attempt_file(own).exists():
        raise Conflict(
            f"{file} makes this machine the host {own.host.name} ({own.host.id}); if that was removed, --force makes it another"
        )
    Path(own.host.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in ("node", "host", "lease"):  # else the new ones would not start, after the token was used
        try:
            take_lock(Path(own.host.state_dir), kind).close()
        except Conflict as error:
            raise Conflict(f"{error.message}: this machine runs a host; stop that first: {stopping(file)}") from error
    return own


def stopping(file: Path) -> str:
    """The command that stops the daemons of the host whose settings are there."""
    if systemd.runs():
        return f"systemctl stop {' '.join(map(systemd.name_of, reversed(node.KINDS)))}"
    daemons = find([node.command_of("node", file)]) or find([node.command_of(kind, file) for kind in node.KINDS])
    return " ".join(["kill", *(str(daemon.pid) for daemon in daemons)]) if daemons else "it has other settings than these"


def attempt_file(own: Config) -> Path:
    return Path(own.host.state_dir) / ATTEMPT


def attempt(own: Config) -> str:
    """The number of the attempt to join that broke off on this machine, or of a new one."""
    file = attempt_file(own)
    if not file.exists():
        replace_file(file, secrets.token_hex(16).encode())
    return file.read_text()


def use(api: Client, url: str, token: str, address: str, attempt: str) -> dict[str, Any]:
    """What the token is worth, also if this attempt has used it already. Raises Error, which says what to do."""
    key = hashlib.sha256(f"{attempt} {address} {token}".encode()).hexdigest()
    try:
        return api.join_host(token, address, key)
    except Unreachable as error:
        reasons = ", ".join(map(str, error.details.values()))
        raise Error(
            f"no answer from {url}: {reasons}; expected the URL that `ucloud host add` has printed."
            f" If it is that, {AGAIN} when the API answers"
        ) from error
    except Temporary as error:
        raise Error(f"{error.message}; {AGAIN}") from error


def address_towards(url: str) -> str:
    """That from which this machine speaks to it. Raises Invalid."""
    try:
        place = urlsplit(url)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((place.hostname, place.port or 80))  # sends nothing
            return str(probe.getsockname()[0])
    except (OSError, TypeError, ValueError) as error:
        raise Invalid(f"which IPv6 address of this machine leads to {url} cannot be told ({error}); give --address") from error


def refuse_foreign(address: str) -> None:
    """Raises Invalid for one that this machine does not have."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise Invalid(
            f"--address {address}: not an IPv6 address of this machine; `ip -6 address` shows those that are"
        ) from error


def settled(own: Config, joined: dict[str, Any], address: str) -> Config:
    cloud = joined["settings"]
    etcd = config.Etcd(endpoints=tuple(cloud["etcd_endpoints"]), election_ms=cloud["etcd_election_ms"])
    host = replace(own.host, id=joined["id"], name=joined["name"], address=address, ttl_s=cloud["ttl_s"])
    return replace(own, etcd=etcd, host=host, network=msgspec.convert(cloud["network"], config.Network))


def write(file: Path, settings: Config) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"# Written by `ucloud host join`; change what you like, then restart the daemons.\n\n{to_toml(settings)}"
    replace_file(file, text.encode())


def start(file: Path, settings: Config) -> None:
    for directory in (settings.host.state_dir, settings.host.run_dir):
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    if systemd.runs():
        systemd.start(file)
        return
    logs = node.logs_of(settings)
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (logs / "node.log").open("ab") as log:
        command = node.command_of("node", file)
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True)


def await_up(api: Client, settings: Config) -> None:
    """Raises Temporary when it takes too long, with the daemons' last words."""
    until_s = time.monotonic() + READY_S
    while api.host(settings.host.id)["state"] != "up":
        if time.monotonic() > until_s:
            logs = node.logs_of(settings)
            said = {kind: logfile.last_lines(logs / f"{kind}.log", 1) for kind in node.KINDS}
            words = "".join(f"; {kind}: {lines[0]}" for kind, lines in said.items() if lines)
            raise Temporary(
                f"{settings.host.name} is not up after {READY_S:.0f} s{words}; its daemons go on trying, see {logs}"
            )
        time.sleep(LOOK_S)
