"""The line of a .pub file, taken apart and checked. Pure; used by `ucloud.api.key`, and nothing else of ucloud reads keys.

What is wrong is said in words that tell what to do, and never shows what was given: it may be a private key.
"""

import base64
import binascii
import hashlib
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from ucloud.base.errors import Invalid

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384  # OpenSSH takes no larger ones
MAX_EXPONENT = 1 << 32  # usual is 65537; each login would cost the guest more
TYPES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)
ANOTHER = "make one by: ssh-keygen -t ed25519"
WHOLE = "was it copied whole?"
FOREIGN = {  # how texts begin that hold a key in another way
    "---- BEGIN SSH2": "is in the format of RFC 4716; convert it by: ssh-keygen -i -f FILE",
    "-----BEGIN PUBLIC KEY": "is in the format PKCS8; convert it by: ssh-keygen -i -m PKCS8 -f FILE",
    "-----BEGIN RSA PUBLIC KEY": "is in the format PEM; convert it by: ssh-keygen -i -m PEM -f FILE",
}


class PublicKey(NamedTuple):
    """See `ucloud.model.key.Key`."""

    type: str
    data: str
    comment: str
    bits: int
    fingerprint: str


def parse(text: str) -> PublicKey:
    """Of the forms of RFC 4253 section 6.6 and OpenSSH's PROTOCOL.u2f. Raises Invalid."""
    kind, data, comment = _words(text.strip())
    raw = _decoded(data)
    _check_type(kind, raw)
    fingerprint = base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return PublicKey(kind, data, comment, _bits(kind, data), f"SHA256:{fingerprint}")


def digest_of(data: str) -> str:
    """SHA-256 of a key that was found good, in hexadecimal: the same key, the same digest."""
    return hashlib.sha256(base64.b64decode(data)).hexdigest()


def _words(line: str) -> tuple[str, str, str]:
    if "PRIVATE KEY" in line or line.startswith("PuTTY-User-Key-File"):
        raise _wrong(
            "is the private part of a key, which only you should have; give its public part, the file that ends in .pub"
        )
    for beginning, why in FOREIGN.items():
        if line.startswith(beginning):
            raise _wrong(why)
    if len(line.splitlines()) > 1:
        raise _wrong("must be one line: add each key with a name of its own")
    if not line.isprintable():
        raise _wrong("has control characters, or others that cannot be seen")
    kind, data, comment = (*line.split(None, 2), "", "", "")[:3]
    if kind in TYPES and data:
        return kind, data, comment.strip()
    raise _wrong(_why_no_type(kind, line))


def _why_no_type(kind: str, line: str) -> str:
    if kind == "ssh-dss":
        return f"is a DSA key, which is no longer safe and which ssh refuses; {ANOTHER}"
    if kind.endswith("-cert-v01@openssh.com"):
        return "is a certificate; give the key itself, the .pub file without -cert in its name"
    if any(word in TYPES for word in line.split()[1:]):
        return "has options before the key, such as command=, which are not allowed; begin with the key's type"
    return f"must be the line of a .pub file, such as: ssh-ed25519 AAAA… me@home; its first word one of {', '.join(TYPES)}"


def _decoded(data: str) -> bytes:
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or base64.b64encode(raw).decode() != data:
        raise _wrong(f"has a second word that is not base64; {WHOLE}")
    return raw


def _check_type(kind: str, raw: bytes) -> None:
    """The first string of the data (RFC 4251 section 5) names the type once more."""
    named = raw[4 : 4 + int.from_bytes(raw[:4])]
    if named != kind.encode():
        other = next((other for other in TYPES if other.encode() == named), "")
        raise _wrong(f"says {kind}, and its data {other}" if other else f"has data that is no key of type {kind}; {WHOLE}")


def _bits(kind: str, data: str) -> int:
    """What is written in another way than ssh writes it is refused, lest one key has two fingerprints."""
    no_key = _wrong(f"has data that is no key of type {kind}; {WHOLE}")
    try:
        key = load_ssh_public_key(f"{kind} {data}".encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise no_key from None
    if not kind.startswith("sk-") and key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() != f"{kind} {data}":
        raise no_key
    if isinstance(key, RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise _wrong(f"has {key.key_size} bits; RSA keys must have {MIN_RSA_BITS} to {MAX_RSA_BITS}; {ANOTHER}")
        if key.public_numbers().e > MAX_EXPONENT:
            raise _wrong(f"has a very large exponent; {ANOTHER}")
        return key.key_size
    return key.key_size if isinstance(key, EllipticCurvePublicKey) else 256


def _wrong(why: str) -> Invalid:
    return Invalid(f"key: {why}", {"key": why})
