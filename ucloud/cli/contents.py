"""Options that name a file whose content is sent: a public key, user data. `-` is what comes on stdin."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem


class Contents(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in later versions of click
    """All that is in a file: one byte at least, and no more than fit."""

    name = "file"

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes) or (ctx and ctx.resilient_parsing):  # a shell that completes words has no stdin to give
            return value if isinstance(value, bytes) else b""
        try:
            with click.open_file(str(value), "rb") as file:
                data: bytes = file.read(self._most_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            self.fail(f"{value}: {getattr(error, 'strerror', None) or error}", param, ctx)
        if not data:
            self.fail(f"{value} is empty", param, ctx)
        if len(data) > self._most_bytes:
            self.fail(f"{value} has more than {self._most_bytes:,} bytes, the most that is allowed", param, ctx)
        return data

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class PublicKey(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The text of a .pub file. A private key never leaves this machine."""

    name = "file"
    _contents = Contents(most_bytes=64 * 1024)  # the API says what of it is too long for a key

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        data = self._contents.convert(value, param, ctx)
        if b"PRIVATE KEY" in data or data.startswith(b"PuTTY-User-Key-File"):
            public = Path(f"{value}.pub")
            instead = f"use {public}" if public.is_file() else "use the public one, whose file ends in .pub"
            self.fail(f"{value} is the private part of a key, which only you should have; {instead}", param, ctx)
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail(f"{value} is no text; give the .pub file that ssh-keygen made", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._contents.shell_complete(ctx, param, incomplete)


USER_DATA = Contents(most_bytes=64 * 1024)
PUBLIC_KEY = PublicKey()
