"""Options that several commands share, and how their values are read."""

import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import click

from ucloud.cli.notices import Notices
from ucloud.client import Client, addresses

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS = {"delete_protection": {"true": True, "false": False}}
UNITS_MIB = {"K": Decimal(1) / 1024, "M": Decimal(1), "G": Decimal(1024), "T": Decimal(1024) * 1024}


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in later versions of click
    """A size with its unit, as whole MiB: 512M, 1.5G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,6})?)([KMGT])", str(value).upper())
        if not match:
            self.fail(f"{value!r} is no size: give a number and a unit, K, M, G or T, as in 512M or 2G", param, ctx)
        mib = Decimal(match[1]) * UNITS_MIB[match[2]]
        if mib != int(mib) or mib < 1:
            self.fail(f"{value!r} must be a whole number of M, and at least 1M", param, ctx)
        return int(mib)


class Label(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, separator, text = str(value).partition("=")
        if not key or not separator:
            self.fail(f"{value!r} is not of the form KEY=VALUE", param, ctx)
        return key, text


class LabelChange(Label):
    """One to be set or, with a - at its end, to be removed: the value is None then."""

    name = "key=value or key-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str | None]:  # type: ignore[override]
        text = str(value)
        if text.endswith("-") and "=" not in text and len(text) > 1:
            return text[:-1], None
        return super().convert(value, param, ctx)


class Setting(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """One of the settings that a thing has, KEY=VALUE."""

    name = "key=value"

    def __init__(self, values: Mapping[str, Mapping[str, object]]) -> None:
        """values: for each setting what its texts mean."""
        self._values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        key, _, text = str(value).partition("=")
        texts = self._values.get(key, {})
        if text not in texts:
            known = (f"{key}={'|'.join(texts)}" for key, texts in self._values.items())
            self.fail(f"{value!r} is no setting: give {', '.join(known)}", param, ctx)
        return key, texts[text]


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", str(value)):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return float(value)


def output_option(function: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "name"]),
        default="table",
        help="Form of the result.",
        show_default=True,
    )(function)


def report_option(function: F) -> F:
    """For what has no name to print."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        help="Form of the result.",
        show_default=True,
    )(function)


def timeout_option(function: F) -> F:
    return click.option(
        "--timeout",
        "timeout_s",
        metavar="SECONDS",
        type=Seconds(),
        default=300,
        show_default=True,
        help="How long to wait; the work goes on afterwards.",
    )(function)


def wait_options(function: F) -> F:
    function = timeout_option(function)
    return click.option("--no-wait", is_flag=True, help="Return as soon as the request is accepted.")(function)


def filter_options(function: F) -> F:
    """Which of the things are listed: `name` and `label`."""
    function = click.option("--label", metavar="KEY[=VALUE]", help="Only those with this label.")(function)
    return click.option("--name", help="Only the one with this name.")(function)


def change_options(function: F) -> F:
    """What can be changed of most things: `name` and `labels`."""
    help = "KEY=VALUE sets one, KEY- removes it; repeatable."
    function = click.option("--label", "labels", type=LabelChange(), multiple=True, help=help)(function)
    return click.option("--name", help="Its new name.")(function)


def connect(context: click.Context) -> Client:
    """The client for the addresses that `--api`, the environment or the configuration file name."""
    notices = Notices()
    client = Client(addresses(os.environ, context.obj), on_silence=notices.silence, on_version=notices.version)
    context.call_on_close(client.close)
    return client
