"""The pages of doc/reference, written from what the program itself says: nothing in them is maintained by hand.

`tests/golden/test_reference.py` compares them with what stands there, and writes them anew when told to.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

import click
import msgspec

from tests.unit.api.cloud import Cloud
from ucloud.api.docs import content
from ucloud.api.openapi import BY_HTTP, document
from ucloud.base import config, errors
from ucloud.cli.main import main as program
from ucloud.daemon.lab import lab
from ucloud.daemon.up import down, status, up
from ucloud.model.kinds import KINDS, STATUS_KINDS

NOTE = "Written by `script/reference` from the program itself; what is changed here by hand is lost.\n"
WIDTH = 100


def pages() -> dict[str, str]:
    """File name → text."""
    made = {"api.md": api(), "cli.md": cli(), "settings.md": settings(), "records.md": records(), "errors.md": errors_page()}
    return {name: f"{text.rstrip()}\n" for name, text in made.items()}


def api() -> str:
    cloud = Cloud()
    try:
        told = content(document(cloud.app))
    finally:
        cloud.close()
    parts = [f"# REST API\n\n{NOTE}\n{told['about']}\n`GET /openapi.json` is the same for programs, `GET /docs` a page.\n"]
    for noun, operations in told["nouns"].items():
        parts.append(f"## {noun}\n")
        parts += map(operation, operations)
    parts.append("## Answers\n")
    for name, fields in told["schemas"].items():
        parts.append(f"### {name}\n\n{table(('field', 'type', 'meaning'), rows(fields))}")
    return "\n".join(parts)


def operation(told: dict[str, Any]) -> str:
    lines = [f"### {told['method']} {told['path']}", "", f"{told['summary']}. {flowing(told['text'])}".rstrip(), ""]
    for title, fields in told["tables"]:
        if fields and title != "header":
            lines.append(table((title, "type", "rule"), rows(fields)))
    answers = (f"{a['status']} {a['text']}" + (f" (`{a['schema']}`)" if a["schema"] else "") for a in told["answers"])
    return "\n".join([*lines, f"Answers: {'; '.join(answers)}.", ""])


def rows(fields: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(f"`{f['name']}`" + (" (required)" if f["required"] else ""), f["type"], f["text"]) for f in fields]


def cli() -> str:
    for command in (up, down, status, lab):
        program.add_command(command)
    parts = [f"# Command line\n\n{NOTE}"]
    top = click.Context(program, info_name="ucloud", terminal_width=WIDTH, **program.context_settings)
    for path, context in commands(program, top):
        parts.append(f"## {path}\n\n```\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield context.command_path, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child and not child.hidden:
                yield from commands(child, click.Context(child, info_name=name, parent=context, terminal_width=WIDTH))


def settings() -> str:
    parts = [f"# Settings\n\n{NOTE}\n{paragraphs(config)}\n"]
    for section, names in config.SECTIONS.items():
        found = []
        for name, kind in names.items():
            schema = msgspec.json.schema(kind)
            _, needed = config.CHECKS.get((section, name), (None, ""))
            default = json.dumps(getattr(getattr(config.DEFAULTS, section), name))
            variable = f"UCLOUD_{section}_{name}".upper()
            found.append(
                (f"`{name}`", f"{needed or rule(schema)}", f"`{default}`", f"`{variable}`", schema.get("description", ""))
            )
        parts.append(f"## [{section}]\n\n{table(('setting', 'value', 'default', 'environment', 'meaning'), found)}")
    return "\n".join(parts)


def rule(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    limits = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
    return ", ".join([schema["type"], *(f"{word} {schema[name]:g}" for name, word in limits.items() if name in schema)])


def records() -> str:
    parts = [
        f"# Records\n\n{NOTE}\nEach is stored as JSON under `/ucloud/v1/` and its key; fields at their default are left out.\n"
    ]
    kinds = {f"{prefix}/": kind for prefix, kind in KINDS.items()} | {
        f"status/HOST/{what}": k for what, k in STATUS_KINDS.items()
    }
    for prefix, kind in kinds.items():
        found = [(f"`{field.encode_name}`", named(field.type), default_of(field)) for field in msgspec.structs.fields(kind)]
        parts.append(f"## {kind.__name__}: `{prefix}`\n\n{paragraphs(kind)}\n\n{table(('field', 'type', 'default'), found)}")
    return "\n".join(parts)


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return f"`{json.dumps(msgspec.to_builtins(field.default))}`"
    return f"`{json.dumps(field.default_factory())}`" if field.default_factory is not msgspec.NODEFAULT else ""


def named(kind: Any) -> str:
    """A type as people write it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is None:
        return str(getattr(kind, "__name__", kind))
    if str(origin) == "typing.Literal":
        return " or ".join(f"`{part}`" for part in parts)
    if str(origin) == "typing.Annotated":
        return named(parts[0])
    inner = ", ".join("…" if part is Ellipsis else named(part) for part in parts)
    return f"{getattr(origin, '__name__', origin)}[{inner}]"


def errors_page() -> str:
    found = [(f"`{kind.code}`", str(kind.http_status), kind.__name__) for kind in tree(errors.Error)]
    found += [(f"`{code}`", str(status), "of HTTP itself") for status, code in BY_HTTP.items()]
    return f"# Errors\n\n{NOTE}\n```\n{inspect.getdoc(errors)}\n```\n\n{table(('code', 'status', 'error'), found)}"


def tree(kind: type[errors.Error]) -> Iterator[type[errors.Error]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def paragraphs(documented: Any) -> str:
    return inspect.getdoc(documented) or ""


def flowing(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def table(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(flowing(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), line("---" for _ in head), *map(line, body)]) + "\n"
