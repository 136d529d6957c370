"""User data: what the guest of a VM does when it first starts (a script, #cloud-config, several parts, gzip), or whatever else
its owner wants it to find. Kept to the byte, once for all VMs that have the same.
"""

import base64
import binascii
import gzip
import hashlib
import io
import zlib

from flask import Blueprint, Response
from msgspec import UNSET, UnsetType

from ucloud.api.describe import describe
from ucloud.api.fields import MAX_USER_DATA_BYTES
from ucloud.api.records import PROJECT, Wish, found, get
from ucloud.base.errors import Invalid, NotFound, Temporary
from ucloud.model import keys
from ucloud.model.key import Blob
from ucloud.model.vm import Vm

routes = Blueprint("userdata", __name__)

GZIP = b"\x1f\x8b"
MAX_UNPACKED_BYTES, PIECE_BYTES = 16 * 1024 * 1024, 64 * 1024


def read(text: str | None | UnsetType, encoded: str | UnsetType) -> bytes | UnsetType:
    """What a request gives as text or in base64. UNSET: neither; b"": none shall be. Raises Invalid."""
    if encoded is UNSET:
        return UNSET if text is UNSET else (text or "").encode()
    if text is not UNSET:
        why = "cannot be given both as text and in base64"
        raise Invalid(f"user_data: {why}", {"user_data": why, "user_data_base64": why})
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise _wrong("is not base64: its length or its end is not as it must be") from error
    if len(data) > MAX_USER_DATA_BYTES:
        raise _wrong(f"has {len(data):,} bytes; at most {MAX_USER_DATA_BYTES:,} are allowed")
    if data.startswith(GZIP):
        _check_gzip(data)
    return data


def _check_gzip(data: bytes) -> None:
    """A guest would find out too late, and tell nobody. It is not kept unpacked."""
    left = MAX_UNPACKED_BYTES
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            while piece := packed.read(PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise _wrong(f"becomes more than {MAX_UNPACKED_BYTES:,} bytes when it is unpacked")
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong("begins as gzip does, but cannot be unpacked; pack it anew, or give it unpacked") from error


def _wrong(why: str) -> Invalid:
    return Invalid(f"user_data: {why}", {"user_data_base64": why})


def digest(data: bytes) -> str:
    """As the record of a VM names it."""
    return hashlib.sha256(data).hexdigest() if data else ""


def claim(wish: Wish, vm: str, data: bytes, before: str = "") -> None:
    """As the VM `vm` has this now, and had what has the SHA-256 `before`. What is there already is put again: the scheduler may
    be about to delete it, as nobody used it."""
    sha256 = digest(data)
    if sha256 == before:
        return
    if sha256:
        wish.put(Blob(sha256=sha256, data=data))
        wish.claim(keys.use("blob", sha256, vm), vm)
    if before:
        wish.deletes.append(keys.use("blob", before, vm))


@routes.get("/v1/vms/<reference>/user-data")
@describe("Show the user data of a VM", answer="application/octet-stream")
def get_user_data(reference: str) -> Response:
    """Byte by byte as it was given. 404 where there is none."""
    vm = found(Vm, "vm", reference, PROJECT).record
    if not vm.user_data:
        raise NotFound(f"the VM {vm.name} has no user data")
    blob = get(Blob, Blob.at(vm.user_data))
    if blob is None:
        raise Temporary("the user data was changed just now", retry_s=1)
    return Response(blob.record.data, mimetype="application/octet-stream")
