"""ucloud vm set: what of a VM can be changed while it runs."""

import difflib
from typing import Any

import click

from ucloud.cli.contents import USER_DATA
from ucloud.cli.names import Reference
from ucloud.cli.noun import Verb
from ucloud.cli.options import SETTINGS, LabelChange, Setting, change_options, connect, output_option
from ucloud.cli.vmshow import show_vm


class Word(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in later versions of click
    """One of the settings, or something that the guest shall know: None for what it shall know no more."""

    name = "key=value or key-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        key, text = LabelChange().convert(value, param, ctx)
        if key in SETTINGS:
            return Setting(SETTINGS).convert(value, param, ctx)
        if close := difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.8):
            self.fail(f"{key!r} is too much like the setting {close[0]}; did you mean that?", param, ctx)
        return key, text


@click.command("set", cls=Verb)
@click.argument("vm", type=Reference("vm"))
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1, type=Word())
@change_options
@click.option("--key", "keys", type=Reference("key"), multiple=True, help="Lets its owner in; may be repeated.")
@click.option("--no-key", "no_keys", type=Reference("key"), multiple=True, help="No longer lets its owner in; may be repeated.")
@click.option("--user-data", type=USER_DATA, help="For cloud-init, from its next start on; - for stdin.")
@click.option("--ha", type=click.Choice(["restart", "never"]), help="What becomes of it when its host dies.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Whose turn it is first.")
@click.option("--no-user-data", is_flag=True, help="It shall have none.")
@output_option
@click.pass_context
def set_(
    context: click.Context,
    vm: str,
    words: tuple[tuple[str, Any], ...],
    name: str | None,
    labels: tuple[tuple[str, str | None], ...],
    keys: tuple[str, ...],
    no_keys: tuple[str, ...],
    user_data: bytes | None,
    no_user_data: bool,
    ha: str | None,
    priority: str | None,
    output: str,
) -> None:
    """Change a VM's name, labels, keys, user data, failover or settings; what is not named stays. It need not be stopped.

    KEY=VALUE is told to its guest, which reads it at http://metadata/custom/KEY; KEY- removes it again. But one is a setting:
    delete_protection=true refuses to delete the VM, until that is false again.

    Guests ask for their keys now and then, or only at their first start: as their image is made.

    \b
    Example:
      ucloud vm set web --name front --label tier=front --label old-
      ucloud vm set web --key alice --no-key bob role=database
      ucloud vm set web delete_protection=true
    """
    if user_data and no_user_data:
        raise click.UsageError("--user-data and --no-user-data exclude each other")
    if both := set(keys) & set(no_keys):
        raise click.UsageError(f"--key and --no-key both name {min(both)}")
    settings = {key: value for key, value in words if key in SETTINGS}
    metadata = {key: value for key, value in words if key not in SETTINGS}
    if no_user_data:
        user_data = b""
    if name is None and user_data is None and not (settings or metadata or labels or keys or no_keys or ha or priority):
        raise click.UsageError("say what to change: KEY=VALUE, or one of the options")
    changed = connect(context).set_vm(
        vm,
        name,
        dict(labels) if labels else None,
        metadata=metadata or None,
        add_keys=keys,
        remove_keys=no_keys,
        user_data=user_data,
        ha=ha,
        priority=priority,
        **settings,
    )
    show_vm(changed, output)
