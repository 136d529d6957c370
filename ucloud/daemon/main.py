"""The program `ucloud`: the commands of the command line, those that run a cloud on this machine, and the daemons.

Daemons are imported only when one is run: the command line starts fast, and a daemon does not carry the command line's
libraries.
"""

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module

import click

from ucloud.base import config, log
from ucloud.base.errors import Error

BUG = 70  # sysexits.h: EX_SOFTWARE
DAEMONS = {kind: f"ucloud.daemon.{kind}" for kind in ("api", "control", "lease", "deadman", "metadata", "host")}


@click.group(hidden=True)
def daemon() -> None:
    """Run one daemon, in the foreground."""


def add_daemon(name: str, module: str) -> None:
    @daemon.command(name)
    @click.option("--config", "path", metavar="FILE", help=f"settings (default: {config.DEFAULT_PATH}, which need not exist)")
    def run(path: str | None) -> None:
        settings = config.load(path)
        log.setup(settings.log.format, settings.log.level)
        main: Callable[[config.Config], None] = import_module(module).main
        main(settings)


for name, module in DAEMONS.items():
    add_daemon(name, module)


@daemon.command("up")
@click.option("--config", "path", metavar="FILE", required=True)
def supervise(path: str) -> None:
    """The supervisor of a cloud on one machine. Its standard input is the socket on which the API is to be reached."""
    import socket
    from pathlib import Path

    from ucloud.daemon import supervisor
    from ucloud.daemon.cloud import load_cloud

    supervisor.main(load_cloud(Path(path)), socket.socket(fileno=sys.stdin.fileno()))


@daemon.command("node")
@click.option("--config", "path", metavar="FILE", required=True)
def keep_host(path: str) -> None:
    """The supervisor of the daemons of one host."""
    from pathlib import Path

    from ucloud.daemon import node

    node.main(config.load(path), Path(path).absolute())


def main() -> None:
    if sys.argv[1:2] == ["daemon"]:
        sys.exit(run_daemon())
    try:
        run_program()
    except KeyboardInterrupt:  # before click, which knows what to do with it, was loaded
        sys.exit("Aborted!")


def run_program() -> None:
    from ucloud.cli.host import host
    from ucloud.cli.main import main as program
    from ucloud.daemon.join import join
    from ucloud.daemon.lab import lab
    from ucloud.daemon.up import down, status, up

    for command in (up, down, status, lab):
        program.add_command(command)
    host.add_command(join)
    program(prog_name="ucloud")


def run_daemon() -> int:
    """Answers the exit status. What a person can mend is one line; anything else is a bug, with its traceback."""
    try:
        daemon(sys.argv[2:], prog_name="ucloud daemon", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Error as error:
        print(f"ucloud: {error.message}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        os._exit(BUG)  # at once: a worker that hangs must not keep a broken daemon half alive
    return 0


if __name__ == "__main__":
    main()
