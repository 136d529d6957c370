"""The program `ucloud`: groups the nouns, and turns every error into a message and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage. `ucloud.daemon.main` adds the commands that run a cloud (up, down, status).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from ucloud import __version__
from ucloud.base.errors import Error
from ucloud.cli import cluster, completion, event, fault, host, image, key, network, pool, topic, vm
from ucloud.cli.noun import FAILED, OTHERS, Noun
from ucloud.cli.output import printable
from ucloud.client import ConfigError


class Program(Noun):
    def main(self, *args: Any, **extra: Any) -> Any:
        _write_whatever_comes(sys.stdout)
        try:
            return super().main(*args, **extra)
        except OSError as error:  # a full disk, a file that cannot be read, an output that was closed
            _drop(sys.stdout)
            try:
                click.echo(f"Error: {error.filename or 'the output'}: {error.strerror or error}", err=True)
            except OSError:
                _drop(sys.stderr)
            sys.exit(1)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _harmless():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _harmless():
                return super().invoke(ctx)
        except Error as error:
            fault.tell(error, ctx.meta.get(FAILED, ctx))
            ctx.exit(2 if isinstance(error, ConfigError) else 1)

    def meant(self, context: click.Context, word: str) -> str:
        """Other programs have no noun `vm`: there the verb comes first."""
        verb = word if word in vm.vm.commands else OTHERS.get(word.lower(), "")
        return super().meant(context, word) or (f"did you mean vm {verb}?" if verb in vm.vm.commands else "")


@contextmanager
def _harmless() -> Iterator[None]:
    """What was typed, or given by another program, is repeated in messages about wrong usage."""
    try:
        yield
    except click.UsageError as error:
        message = error.format_message()
        if all(character.isprintable() or character in "\n\t" for character in message):
            raise
        raise click.UsageError(printable(message), error.ctx) from None


def _write_whatever_comes(stream: TextIO | None) -> None:
    """A character that the terminal's encoding lacks must not end the program."""
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def _drop(stream: TextIO | None) -> None:
    """What could not be written must not be tried again when the interpreter ends, with words of its own."""
    with suppress(OSError, AttributeError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())  # type: ignore[union-attr]


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ucloud")
@click.option(
    "--api",
    metavar="ADDRESS",
    help="Where the API is: unix:/PATH or http://HOST:PORT; several with commas.  [default: UCLOUD_API,"
    " ~/.config/ucloud/client.toml, or this machine]",
)
@click.pass_context
def main(context: click.Context, api: str | None) -> None:
    """Virtual machines on your own cloud.

    Results go to stdout, progress and errors to stderr. Names and ids can be used alike. `ucloud help` lists topics to read
    about.

    \b
    Example:
      ucloud image upload debian debian-12.qcow2
      ucloud vm create web --image debian --memory 1G
      ucloud vm list
    """
    context.obj = api


for command in (
    *(vm.vm, image.image, network.network, key.key, host.host, pool.pool),
    *(event.event, cluster.cluster, topic.help_, completion.completion),
):
    main.add_command(command)
