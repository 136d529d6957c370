"""The line of a .pub file: taken as ssh-keygen understands it, or refused with words that tell what to do."""

import base64
import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.pubkeys import KEYS, MADE, WEAK
from ucloud.api.sshkey import MAX_EXPONENT, digest_of, parse
from ucloud.base.errors import Invalid

ED25519, ECDSA, RSA = KEYS[0], MADE["ecdsa256"][0], MADE["rsa2048"][0]


def raw(line: str) -> bytes:
    return base64.b64decode(line.split()[1])


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def line(kind: str, data: bytes) -> str:
    return f"{kind} {base64.b64encode(data).decode()} me"


def rsa(exponent: bytes, modulus: bytes = raw(RSA)[-257:]) -> str:
    return line("ssh-rsa", string(b"ssh-rsa") + string(exponent) + string(modulus))


def refused(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert list(caught.value.details) == ["key"]
    return caught.value.message


@pytest.mark.parametrize("name", MADE)
def test_bits_and_fingerprint_are_those_that_ssh_keygen_shows(name: str) -> None:
    text, bits, fingerprint = MADE[name]
    key = parse(f"  {text}\n")
    assert (key.bits, key.fingerprint) == (bits, fingerprint)
    assert f"{key.type} {key.data} {key.comment}" == text
    assert base64.b64encode(bytes.fromhex(digest_of(key.data))).decode().rstrip("=") == fingerprint.removeprefix("SHA256:")


def test_a_comment_may_be_missing_or_have_several_words() -> None:
    kind, data, _ = ED25519.split()
    assert parse(f"{kind} {data}").comment == ""
    assert parse(f"{kind} {data} Zoë  at home").comment == "Zoë  at home"


def test_keys_of_security_keys() -> None:
    """OpenSSH's PROTOCOL.u2f: as the others, and for which application they are."""
    kind = "sk-ssh-ed25519@openssh.com"
    assert parse(line(kind, string(kind.encode()) + string(raw(ED25519)[-32:]) + string(b"ssh:"))).bits == 256
    kind = "sk-ecdsa-sha2-nistp256@openssh.com"
    data = string(kind.encode()) + string(b"nistp256") + string(raw(ECDSA)[-65:]) + string(b"ssh:")
    assert parse(line(kind, data)).bits == 256
    assert "no key of type" in refused(line(kind, data[:-8]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the line of a .pub file"),
        ("ssh-ed25519", "the line of a .pub file"),
        ("me@home", "the line of a .pub file"),
        ("ssh-ed448 AAAA me", "the line of a .pub file"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----", "private part"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "private part"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "private part"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "ssh-keygen -i -f"),
        ("-----BEGIN PUBLIC KEY-----\nMIIB", "ssh-keygen -i -m PKCS8"),
        ("-----BEGIN RSA PUBLIC KEY-----\nMIIB", "ssh-keygen -i -m PEM"),
        (f"{ED25519}\n{KEYS[1]}", "one line"),
        (f"{ED25519}\u2028x", "one line"),
        (f"{ED25519}\x1b[2J", "control characters"),
        (f"{ED25519}\u202e", "control characters"),
        ("ssh-dss AAAAB3NzaC1kc3M= me", "DSA"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA me", "certificate"),
        (f'command="rm -rf /" {ED25519}', "options"),
        (f"no-pty,from=::1 {ED25519}", "options"),
        ("ssh-ed25519 AAAA! me", "not base64"),
        ("ssh-ed25519 ==== me", "not base64"),
        (ED25519.replace(" me", "= me"), "not base64"),
        (ED25519[:40], "copied whole"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa", 1), "says ssh-rsa, and its data ssh-ed25519"),
        (line("ssh-rsa", b"\xff\xff\xff\xff"), "no key of type"),
        (line("ssh-rsa", b"\0"), "no key of type"),
        (line("ssh-ed25519", raw(ED25519) + b"x"), "no key of type"),
        (line("ssh-ed25519", raw(ED25519)[:-1]), "no key of type"),
        (line("ecdsa-sha2-nistp256", raw(ECDSA)[:-1] + b"\0"), "no key of type"),  # not on the curve
        (line("ecdsa-sha2-nistp256", raw(ECDSA)[:-65] + b"\2" + raw(ECDSA)[-64:]), "no key of type"),
        (line("ecdsa-sha2-nistp256", raw(ECDSA).replace(b"\x08nistp256", b"\x08nistp521")), "no key of type"),
        (WEAK, "has 1024 bits"),
        (rsa(b"\x01\x00\x01", b"\x00" + b"\xff" * 2049), "16384"),
        *((rsa(exponent), "no key of type") for exponent in (b"", b"\0", b"\1", b"\2", b"\1\0\0", b"\xff")),
        (rsa((MAX_EXPONENT + 1).to_bytes(5)), "exponent"),
        (rsa(b"\x01\x00\x01", b"\0" + raw(RSA)[-257:]), "no key of type"),  # the same key, written otherwise
        (rsa(b"\x01\x00\x01", b""), "no key of type"),
    ],
)
def test_what_is_refused_and_what_to_do(text: str, says: str) -> None:
    assert says in refused(text)


@pytest.mark.parametrize("secret", ["b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"])
def test_nothing_of_a_private_key_is_said_again(secret: str) -> None:
    assert secret not in refused(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----")


@given(st.sampled_from([ED25519, ECDSA, RSA]), st.binary(max_size=8), st.integers(0, 300), st.integers(0, 8))
def test_whatever_the_data_is_it_is_taken_as_it_is_or_refused(good: str, more: bytes, place: int, less: int) -> None:
    data = raw(good)[:place] + more + raw(good)[place + less :]
    with contextlib.suppress(Invalid):
        assert base64.b64decode(parse(line(good.split()[0], data)).data) == data
