"""Errors for people: what is wrong, and what to type next."""

from collections.abc import Sequence

import click

from ucloud.base.errors import Conflict, Error, Invalid, NoCapacity, NotFound, Temporary
from ucloud.cli.names import did_you_mean, names
from ucloud.cli.output import printable
from ucloud.client import ConfigError, Unreachable

NOUNS = ("vm", "image", "network", "key", "host", "pool")
SHOWN = 10


def tell(error: Error, context: click.Context) -> None:
    click.echo(f"Error: {printable(error.message)}", err=True)
    for line in _next(error, context):
        click.echo(printable(line), err=True)


def _next(error: Error, context: click.Context) -> list[str]:
    if isinstance(error, Unreachable):
        tried = [f"  tried {address}: {reason}" for address, reason in error.details.items()]
        here = "Is the cloud on this machine? `ucloud status` tells how it is; `script/up` or `ucloud up` starts one."
        return [*tried, here, "Is it elsewhere? Say where its API is with --api or UCLOUD_API."]
    if isinstance(error, Temporary):
        return ["What is wrong with the cloud, if anything: ucloud cluster show"]
    if isinstance(error, ConfigError):
        return ["Correct it, or say where the API is with --api."]
    if isinstance(error, NoCapacity):
        return ["What the hosts have: ucloud host list"] if {"cpus", "memory_mib"} & error.details.keys() else []
    if isinstance(error, NotFound):
        return [_instead(noun, [str(error.details[noun])], context) for noun in NOUNS if noun in error.details]
    if isinstance(error, Invalid):
        bad = {name: value for name, value in context.params.items() if name in error.details}
        one = [_instead(noun, [str(bad[noun])], context) for noun in NOUNS if noun in bad]
        return one + [_instead(noun, bad[f"{noun}s"], context) for noun in NOUNS if f"{noun}s" in bad]
    noun = context.parent.info_name if context.parent else ""
    if isinstance(error, Conflict) and error.details.get("name") == "taken" and noun in NOUNS:
        return [f"Choose another name, or look at what has it: ucloud {noun} list"]
    if isinstance(error, Conflict) and error.details.get("key") == "taken":
        return ["Use that one, or look at what there is: ucloud key list"]
    if isinstance(error, Conflict) and noun == "key" and "used_by" in error.details:
        return [f"Take it from those VMs: ucloud vm set VM --no-key {context.params['key']}"]
    if isinstance(error, Conflict) and noun == "network" and "used_by" in error.details:
        return [f"Delete those VMs, or detach them: ucloud vm detach VM {context.params['network']}"]
    return []


def _instead(noun: str, references: Sequence[str], context: click.Context) -> str:
    """What there is, where one of these was not found."""
    known = names(context, noun)
    if noun == "image" and not known:
        return "Look at what there is: ucloud image list; upload one: ucloud image upload NAME FILE"
    strange = (reference for reference in references if reference not in known)
    question = next(filter(None, (did_you_mean(reference, known) for reference in strange)), "").capitalize()
    if not question and known:
        question = f"There is: {', '.join(known[:SHOWN])}{', …' if len(known) > SHOWN else ''}."
    return f"{question} All there are: ucloud {noun} list".strip()
