"""By which host keys `vm ssh` knows a guest: those that it reported on its serial line, which nobody on the network between can
write to; else the one that it showed first. Each VM has a file of its own, in the form of ssh's known_hosts.
"""

import base64
import binascii
import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ucloud.base.errors import Error
from ucloud.base.ids import is_id

BEGIN, END = b"-----BEGIN SSH HOST KEY KEYS-----", b"-----END SSH HOST KEY KEYS-----"  # as cloud-init prints them
TYPES = (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"ssh-rsa")
MAX_KEYS, MAX_LINE_BYTES = 16, 4096  # of rsa with 16384 bits: 2,800


def reported(log: bytes) -> list[str]:
    """What the last complete block of a serial log says, each key as its type and its data. What else is in a block, as from a
    kernel that spoke at the same time, is passed over."""
    found: list[str] = []
    block: list[str] | None = None
    for line in log.splitlines():
        if line.endswith(BEGIN):  # the prompt of a login may stand before it
            block = []
        elif line == END:
            found, block = block or found, None
        elif block is not None and len(block) < MAX_KEYS and (key := _key_of(line)):
            block.append(key)
    return found


def _key_of(line: bytes) -> str:
    """Nothing for what is no whole host key (RFC 4253 section 6.6). What follows it is a comment."""
    if len(line) > MAX_LINE_BYTES:
        return ""
    kind, data = (*line.split(b" ", 2), b"", b"")[:2]
    with contextlib.suppress(binascii.Error):
        raw = base64.b64decode(data, validate=True)
        if kind in TYPES and base64.b64encode(raw) == data and _strings(raw)[:1] == [kind]:
            return f"{kind.decode()} {data.decode()}"
    return ""


def _strings(raw: bytes) -> list[bytes]:
    """Of which a key consists (RFC 4251 section 5); none if it is cut off, as by a line of somebody else."""
    found = []
    while raw:
        size, raw = int.from_bytes(raw[:4]), raw[4:]
        if len(raw) < size:
            return []
        found.append(raw[:size])
        raw = raw[size:]
    return found


def file_of(vm: str, environment: Mapping[str, str]) -> Path:
    """Where the host keys of the VM with this id are kept, in a directory that is there. Raises Error for who has no home, and
    for what is no id: an API that was taken over must not choose which file is written."""
    if not is_id(vm):
        raise Error(f"what the API answers is not understood: {vm[:60]!r} is no id")
    home = environment.get("HOME")
    state = environment.get("XDG_STATE_HOME") or (home and f"{home}/.local/state")
    if not state or not Path(state).is_absolute():
        raise Error("there is no directory to remember host keys in: HOME is not set")
    directory = Path(state) / "ucloud" / "hostkeys"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / vm


def remember(file: Path, vm: str, keys: Sequence[str]) -> None:
    """In place of those that were remembered. The VM's id stands for its address."""
    text = "".join(f"{vm} {key}\n" for key in keys)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False) as new:
        new.write(text)
    os.replace(new.name, file)
