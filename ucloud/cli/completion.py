"""`ucloud completion`: what a shell needs to complete commands, options, and names of things."""

import click
from click.shell_completion import BashComplete, ShellComplete, get_completion_class

PROGRAM = "ucloud"


class Bash(BashComplete):
    @staticmethod
    def _check_version() -> None:
        """Which bash will read the script is not known, and one that is too old says so itself."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands and names.

    \b
    Example, for this shell, and for all to come:
      source <(ucloud completion bash)
      echo 'source <(ucloud completion bash)' >>~/.bashrc
    """
    kind: type[ShellComplete] | None = Bash if shell == "bash" else get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
