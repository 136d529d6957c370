"""Errors for people: what is wrong, and what to type next."""

import contextlib

import click

from ucloud.base.errors import Conflict, Error, Invalid, NoCapacity, NotFound
from ucloud.cli.options import connect
from ucloud.cli.output import printable
from ucloud.client import ConfigError, Unreachable


def tell(error: Error, context: click.Context) -> None:
    click.echo(f"Error: {printable(error.message)}", err=True)
    for line in _next(error, context):
        click.echo(printable(line), err=True)


def _next(error: Error, context: click.Context) -> list[str]:
    noun = (context.invoked_subcommand or "").strip()
    if isinstance(error, Unreachable):
        tried = [f"  tried {address}: {reason}" for address, reason in error.details.items()]
        return [*tried, "Start a cloud on this machine with `ucloud up`, or say where it is with --api or UCLOUD_API."]
    if isinstance(error, ConfigError):
        return ["Correct it, or say where the API is with --api."]
    if isinstance(error, Invalid) and "image" in error.details:
        return [_images(context), "All images: ucloud image list"]
    if isinstance(error, NotFound) and noun in ("vm", "image", "host"):
        return [f"All there are: ucloud {noun} list"]
    if isinstance(error, Conflict) and error.details.get("name") == "taken":
        return [f"Choose another name, or look at what has it: ucloud {noun} list"]
    if isinstance(error, NoCapacity):
        return ["What the hosts have: ucloud host list"]
    return []


def _images(context: click.Context) -> str:
    names = []
    with contextlib.suppress(Error):
        names = [image["name"] for image in connect(context).images()]
    if not names:
        return "There is no image yet; upload one: ucloud image upload NAME FILE"
    return f"There is: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
