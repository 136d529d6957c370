"""Which host keys of a serial log are believed, and how they are remembered."""

import base64
from pathlib import Path

import pytest

from tests.unit.api.pubkeys import KEYS, MADE
from ucloud.base.errors import Error
from ucloud.cli.hostkeys import BEGIN, END, MAX_KEYS, MAX_LINE_BYTES, file_of, remember, reported

A, B = (" ".join(key.split()[:2]) for key in KEYS[:2])
ID = "vm-01h00000000000000000000000"
ECDSA = " ".join(MADE["ecdsa256"][0].split()[:2])
PARTS = b"\0\0\0\x0bssh-ed25519" + bytes(4 * MAX_LINE_BYTES)  # very many: a guest may write a line as long as its log


def block(*lines: str) -> bytes:
    return b"\r\n".join([BEGIN, *(line.encode() for line in lines), END, b""])


@pytest.mark.parametrize(
    ("log", "keys"),
    [
        (b"", []),
        (b"Debian GNU/Linux\r\n" + block(f"{A} root@web", ECDSA) + b"login: ", [A, ECDSA]),
        (block(A) + b"reset\r\n" + block(B), [B]),
        (block(A).replace(b"\r", b""), [A]),
        (block(A) + block(B)[: -len(END)], [A]),  # not complete yet
        (BEGIN + b"\r\n" + A.encode() + b"\r\nreset in the middle\r\n" + block(B), [B]),
        (block(A) + block(), [A]),
        (block(A, "[   12.3] eth0: link becomes ready", B), [A, B]),
        (block(A[:-4], f"{A}=", "ssh-ed25519", "", "\xff\xfe", A.replace("ssh-ed25519", "ssh-rsa")), []),
        (block("ssh-dss " + base64.b64encode(b"\0\0\0\7ssh-dssx").decode()), []),
        (block(f"* {A}", f"@cert-authority * {A}", f"other-host {A}"), []),
        (block(f"ssh-ed25519 {base64.b64encode(b'some').decode()}"), []),
        (b"\r\nweb login: " + block(A), [A]),
        (block(f"sshd: invalid user {A}"), []),
        (block(A).replace(BEGIN, BEGIN + b" "), []),
        (block(*[A] * 99), [A] * MAX_KEYS),
        (block(f"ssh-ed25519 {base64.b64encode(PARTS).decode()}", B), [B]),
    ],
)
def test_the_last_complete_block_is_believed(log: bytes, keys: list[str]) -> None:
    assert reported(log) == keys


def test_what_is_remembered_is_replaced_whole(tmp_path: Path) -> None:
    file = file_of(ID, {"HOME": str(tmp_path)})
    assert file == tmp_path / ".local" / "state" / "ucloud" / "hostkeys" / ID
    remember(file, ID, [A, ECDSA])
    remember(file, ID, [B])
    assert file.read_text() == f"{ID} {B}\n"
    assert list(file.parent.iterdir()) == [file]
    assert file_of(ID, {"HOME": "/nowhere", "XDG_STATE_HOME": str(tmp_path)}).parent.parent.parent == tmp_path


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_who_has_no_home_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(Error, match="HOME is not set"):
        file_of(ID, environment)


@pytest.mark.parametrize("id", ["../../.ssh/authorized_keys", "/etc/passwd", "", "web"])
def test_what_is_no_id_names_no_file(tmp_path: Path, id: str) -> None:
    with pytest.raises(Error, match="is no id"):
        file_of(id, {"HOME": str(tmp_path)})
