"""Files whose content is sent: what is sent of them, and what never."""

import io
import sys
from pathlib import Path

import click
import pytest

from tests.unit.api.pubkeys import KEYS
from ucloud.cli.contents import PUBLIC_KEY, USER_DATA, Contents

LIMIT = 64 * 1024


@pytest.mark.parametrize("data", [b"\0\xff\r\n", b"#!/bin/sh\n", b"x" * LIMIT])
def test_user_data_is_kept_to_the_byte(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "data"
    file.write_bytes(data)
    assert USER_DATA.convert(str(file), None, None) == data


def test_what_comes_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"some \xff")))
    assert USER_DATA.convert("-", None, None) == b"some \xff"


def test_a_shell_that_completes_words_is_not_read_from() -> None:
    context = click.Context(click.Command("x"), resilient_parsing=True)
    assert USER_DATA.convert("-", None, context) == b""
    assert PUBLIC_KEY.convert("-", None, context) == ""


def test_names_of_files_are_completed() -> None:
    for kind in (USER_DATA, PUBLIC_KEY):
        [item] = kind.shell_complete(click.Context(click.Command("x")), click.Option(["--file"]), "id")
        assert (item.value, item.type) == ("id", "file")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none", None, "No such file"),
        (".", None, "Is a directory"),
        ("\0", None, "null byte"),
        ("empty", b"", "is empty"),
        ("large", b"x" * (LIMIT + 1), "has more than 65,536 bytes"),
        ("/dev/zero", None, "has more than 65,536 bytes"),
    ],
)
def test_what_cannot_be_sent(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(click.BadParameter, match=words):
        Contents(LIMIT).convert(str(tmp_path / name) if "\0" not in name else name, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
    ],
)
def test_a_private_key_never_leaves_the_machine(tmp_path: Path, text: str) -> None:
    file = tmp_path / "id"
    file.write_text(text)
    with pytest.raises(click.BadParameter, match="use the public one, whose file ends in .pub"):
        PUBLIC_KEY.convert(str(file), None, None)
    public = tmp_path / "id.pub"
    public.write_text(KEYS[0])
    with pytest.raises(click.BadParameter, match=f"use {public}") as refused:
        PUBLIC_KEY.convert(str(file), None, None)
    assert text.splitlines()[-1] not in str(refused.value)
    assert PUBLIC_KEY.convert(str(public), None, None) == KEYS[0]


def test_what_is_no_text_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(KEYS[0], encoding="utf-16")
    with pytest.raises(click.BadParameter, match="is no text"):
        PUBLIC_KEY.convert(str(file), None, None)
