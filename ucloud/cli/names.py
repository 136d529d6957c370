"""References to things of the cloud: completed with real names, and mended when mistyped. Both must never keep anybody
waiting: what the API does not say within a second is left out, without a word."""

import difflib
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import click
from click.shell_completion import CompletionItem

from ucloud.base.errors import Error
from ucloud.cli.output import printable
from ucloud.client import Client, addresses

PATIENCE_S = 1.0
MOST = 1000  # of the names that are looked at


class Reference(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in later versions of click
    """The name or id of a thing. nouns: as the SDK's method that lists them."""

    def __init__(self, noun: str) -> None:
        self.name = noun

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names(ctx, self.name) if name.startswith(incomplete)]


def names(context: click.Context, noun: str) -> list[str]:
    """Of all things of this noun, as far as they are known."""
    found: list[str] = []
    api = context.find_root().params.get("api")

    def ask() -> None:
        with suppress(Error), Client(addresses(os.environ, api), patience_s=PATIENCE_S) as client:
            found.extend(printable(thing["name"]) for thing in islice(getattr(client, f"{noun}s")(), MOST))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return list(found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question, or nothing where nothing is like it."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""
