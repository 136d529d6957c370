"""ucloud vm console: a VM's serial line, on this terminal or between pipes."""

import os
import select
import signal
import sys
import threading
import time
from contextlib import nullcontext, suppress

import click

from ucloud.base.errors import Conflict, Error, RateLimited, Temporary, Unauthenticated
from ucloud.cli import keyboard
from ucloud.cli.names import Reference
from ucloud.cli.options import connect
from ucloud.cli.output import printable
from ucloud.client import Client
from ucloud.client.console import Ended

CHUNK_BYTES = 1024
DECIDE_S = 1.0  # for the key after Ctrl-]
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 3.0
PATIENCE_S = 60.0  # of a script; a person leaves when it takes too long
MENU = "leaving; but r: tell a shell this window's size, t: take over the typing, ]: send Ctrl-] itself"
PASSING = (Temporary, Conflict, RateLimited, Unauthenticated)  # while the VM moves, or a ticket was lost


@click.command()
@click.argument("vm", type=Reference("vm"))
@click.option("--read-only", is_flag=True, help="Only look on.")
@click.option("--take", is_flag=True, help="Take over the typing, if somebody else has it.")
@click.option(
    "--leave-after",
    "quiet_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=86400),
    default=2.0,
    show_default=True,
    help="Where the input is no terminal: leave when it has ended and the guest was silent for so long.",
)
@click.pass_context
def console(context: click.Context, vm: str, read_only: bool, take: bool, quiet_s: float) -> None:
    """Look at a VM's serial line, and type on it. Leave with Ctrl-].

    The last lines of the log come first. Of all that look on, one types: who came first, or took over. Restarts of the guest,
    of its host's daemon and of the API interrupt the console, but don't end it.

    Within a second after Ctrl-], a key does something else: r types `stty rows R cols C`, to tell a shell how large your
    window is, as a serial line cannot; t takes over the typing; ] sends Ctrl-] itself.

    \b
    Example:
      ucloud vm console web
      echo uptime | ucloud vm console web
    """
    with Session(connect(context), vm, read_only, take) as session:
        session.run(quiet_s)


class Session:
    """What one command does: a thread prints what comes, the main one sends what is typed."""

    def __init__(self, client: Client, vm: str, read_only: bool, take: bool) -> None:
        """Raises what `Client.open_console` does."""
        self._client, self._vm, self._read_only = client, vm, read_only
        self._is_terminal = sys.stdin.isatty()
        self._console = client.open_console(vm, read_only, take)
        self._failure: Exception | None = None
        self._over, self._heard_s = threading.Event(), time.monotonic()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._listener = threading.Thread(target=self._listen, name="console", daemon=True)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        self._over.set()
        self._console.close()
        if self._listener.is_alive():
            self._listener.join(LONGEST_RETRY_S)

    def run(self, quiet_s: float) -> None:
        """Until the user leaves. Raises what ended it else.

        A signal wakes the main thread through the pipe: one that comes just before `select`, or to another thread, would not.
        """
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        if self._is_terminal:
            click.echo(f"Console of {printable(self._vm)}. Leave with Ctrl-].", err=True)
        with suppress(KeyboardInterrupt), keyboard.raw(0) if self._is_terminal else nullcontext():
            self._listener.start()
            if self._is_terminal:
                self._pass_keys()
            else:
                self._pass_input(quiet_s)
        if self._is_terminal:
            click.echo("", err=True)
        if self._failure:
            raise self._failure

    def _pass_keys(self) -> None:
        keys = keyboard.Keys()
        while typed := self._read(DECIDE_S if keys.is_asking else None):
            for part in keys.feed(typed):
                if isinstance(part, bytes):
                    self._type(part)
                elif not self._obey(part):
                    return
            if keys.is_asking:
                self._say(MENU)

    def _obey(self, key: str) -> bool:
        """False for leaving."""
        if key == "r":
            self._type(keyboard.size_command(0))
        elif key == "t":
            with suppress(Ended):
                self._console.take()
        elif key == "]":
            self._type(bytes([keyboard.ESCAPE]))
        else:
            return False
        return True

    def _pass_input(self, quiet_s: float) -> None:
        """From a file or a pipe, until it has ended and the guest is silent."""
        if self._read_only:
            self._over.wait()
            return
        while typed := self._read(None):
            self._type(typed)
        self._heard_s = time.monotonic()
        while (left_s := self._heard_s + quiet_s - time.monotonic()) > 0 and not self._over.wait(left_s):
            pass

    def _read(self, wait_s: float | None) -> bytes | None:
        """What was typed; nothing at the end of it; None when time is up, or when the session has ended."""
        ready = select.select([0, self._woken], [], [], wait_s)[0]
        return os.read(0, CHUNK_BYTES) if ready == [0] else None

    def _type(self, data: bytes) -> None:
        if not self._read_only:
            with suppress(Ended):  # the listener sees that too, and says it
                self._console.send(data)

    def _listen(self) -> None:
        try:
            self._print_all()
        except (Error, OSError) as failure:
            if not self._over.is_set():
                self._failure = failure
        finally:
            self._over.set()
            self._console.close()
            os.write(self._wake, b".")

    def _print_all(self) -> None:
        while not self._over.is_set():
            try:
                message = self._console.receive()
            except Ended as error:
                self._reconnect(error)
                continue
            self._heard_s = time.monotonic()
            write(1, message.data)
            if message.notice:
                self._say(message.notice)

    def _reconnect(self, why: Error) -> None:
        """Until there is a connection again, or it takes too long. Raises what cannot be waited for."""
        if self._over.is_set():
            return
        self._say(f"{why.message}; connecting again")
        pause_s, until_s = FIRST_RETRY_S, time.monotonic() + PATIENCE_S
        while not self._over.wait(pause_s):
            try:
                self._console = self._client.open_console(self._vm, self._read_only, place=self._console.place)
            except PASSING as error:
                if not self._is_terminal and time.monotonic() > until_s:
                    raise
                if error.message != why.message:
                    self._say(error.message)
                why, pause_s = error, min(2 * pause_s, LONGEST_RETRY_S)
            else:
                self._say("connected again")
                return

    def _say(self, words: str) -> None:
        end = "\r\n" if self._is_terminal else "\n"
        write(2, f"{end if self._is_terminal else ''}[{printable(words)}]{end}".encode())


def write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
