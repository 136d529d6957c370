"""`ucloud help`: short texts to read, in topics/*.txt, and the help of each command."""

from importlib import resources

import click
from click.shell_completion import CompletionItem

from ucloud.cli.names import did_you_mean

TEXTS = resources.files("ucloud.cli") / "topics"


def topics() -> dict[str, str]:
    """Each text by its name. Its first line says in a few words what it is about."""
    texts = {file.name.removesuffix(".txt"): file for file in TEXTS.iterdir() if file.name.endswith(".txt")}
    return {name: texts[name].read_text(encoding="utf-8") for name in sorted(texts)}


class Topic(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "topic"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in topics() if name.startswith(incomplete)]


@click.command("help")
@click.argument("words", metavar="[TOPIC | COMMAND...]", nargs=-1, type=Topic())
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain a topic or a command. Without one: list the topics.

    \b
    Example:
      ucloud help phases
      ucloud help vm create
    """
    texts = topics()
    if not words:
        click.echo("Topics:\n")
        width = max(map(len, texts))
        for name, text in texts.items():
            click.echo(f"  {name.ljust(width)}  {text.partition(chr(10))[0]}")
        click.echo("\nRead one with `ucloud help TOPIC`; of a command, `ucloud help COMMAND`.")
    elif words[0] in texts and len(words) == 1:
        click.echo(texts[words[0]].rstrip())
    else:
        click.echo(_help_of(context.find_root(), words, list(texts)))


def _help_of(context: click.Context, words: tuple[str, ...], texts: list[str]) -> str:
    """Of the command that these words are."""
    for word in words:
        command = context.command.commands.get(word) if isinstance(context.command, click.Group) else None
        if command is None:
            known = [*texts, *getattr(context.command, "commands", {})]
            meant = did_you_mean(word, known)
            raise click.UsageError(f"there is no topic or command {word!r}" + (f"; {meant}" if meant else ""))
        context = click.Context(command, info_name=word, parent=context)
    return context.get_help()
