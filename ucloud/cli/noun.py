"""A noun of the command line, with its verbs. A mistyped one, or one that other clouds use, is answered with ours."""

import click

from ucloud.base.errors import Error
from ucloud.cli.names import did_you_mean

OTHERS = {
    "ls": "list",
    "rm": "delete",
    "remove": "delete",
    "destroy": "delete",
    "info": "show",
    "get": "show",
    "describe": "show",
    "inspect": "show",
    "new": "create",
    "add": "create",
    "create": "add",
    "import": "add",
    "launch": "create",
    "run": "create",
    "restart": "reboot",
    "poweroff": "stop",
    "shutdown": "stop",
    "poweron": "start",
    "logs": "log",
    "update": "set",
    "edit": "set",
    "rename": "set",
    "server": "vm",
    "instance": "vm",
    "node": "host",
    "hypervisor": "host",
    "storage": "pool",
    "template": "image",
    "net": "network",
    "keypair": "key",
    "ssh-key": "key",
    "connect": "attach",
    "disconnect": "detach",
}


FAILED = "ucloud.failed"  # in the contexts' common memory: where an error came from


class Verb(click.Command):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Error:
            ctx.meta[FAILED] = ctx
            raise


class Noun(click.Group):
    command_class = Verb

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not ctx.resilient_parsing and not word.startswith("-") and self.get_command(ctx, word) is None:
            meant = self.meant(ctx, word)
            raise click.UsageError(f"there is no command {word!r}" + (f"; {meant}" if meant else ""), ctx)
        return super().resolve_command(ctx, args)

    def meant(self, context: click.Context, word: str) -> str:
        known = [name for name in self.list_commands(context) if not self.commands[name].hidden]
        other = OTHERS.get(word.lower(), "")
        return f"did you mean {other}?" if other in known else did_you_mean(word.lower(), known)
