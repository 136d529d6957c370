"""What an uploaded file says it is, read from its first bytes before any program opens it. Called by every pool's `publish`.

A qcow2 file may name other files, of the machine that opens it, and tables that take for ever to read. All of that stands
in its header, which is small and fixed: whoever passes here has nothing left to say that could harm the reader.
The format is decided here, once. It is told to qemu ever after, which must never guess: a guest writes its own first bytes.
"""

import os
import stat
import struct
from pathlib import Path

from ucloud.base.errors import Invalid
from ucloud.driver.pool.contract import Examined

BYTES = 512  # what `examine` wants to see of the file
MIB = 1024 * 1024

QCOW2 = b"QFI\xfb"
BOOT_SIGNATURE = b"\x55\xaa"  # at byte 510 of every disk that a PC can boot, GPT included
OTHERS = {b"KDMV": "vmdk", b"# Disk De": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vhd", b"<<< ": "vdi", b"QED\0": "qed"}
OTHERS |= {b"LUKS\xba\xbe": "luks", b"\x7fELF": "elf", b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

FIXED = struct.Struct(">4sIQIIQIIQQIIQ")  # qcow2 version 2; big endian
FEATURES = struct.Struct(">QQQII")  # what version 3 adds
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
HARMFUL = {DIRTY: "was not closed properly", CORRUPT: "is marked as corrupt", DATA_FILE: "keeps its data in another file"}


def read_head(path: Path) -> tuple[bytes, int]:
    """The first bytes of a regular file, and its size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{path.name} is not a file")
        return os.read(descriptor, BYTES), status.st_size
    finally:
        os.close(descriptor)


def examine(head: bytes, size: int, max_virtual_mib: int) -> Examined:
    """`head`: the first bytes of a file of `size` bytes. Raises Invalid when it must not be used."""
    if head.startswith(QCOW2) and len(head) >= BYTES:
        format, virtual = "qcow2", _qcow2_virtual_bytes(head)
    elif len(head) >= BYTES and head[510:512] == BOOT_SIGNATURE and size % 512 == 0:
        format, virtual = "raw", size
    else:
        guess = next((name for magic, name in OTHERS.items() if head.startswith(magic)), "")
        raise Invalid(f"neither qcow2 nor a raw disk with a boot sector{guess and f', but {guess}'}")
    if virtual == 0:
        raise Invalid("the disk inside has no size")
    if virtual > max_virtual_mib * MIB:
        raise Invalid(f"the disk inside has {-(-virtual // MIB)} MiB; at most {max_virtual_mib} MiB are allowed")
    return Examined(format, -(-virtual // MIB))


def virtual_bytes(head: bytes) -> int:
    """Of a file that `examine` accepted as qcow2 once."""
    size: int = FIXED.unpack_from(head)[5]
    return size


def _qcow2_virtual_bytes(head: bytes) -> int:
    _, version, backing, _, cluster_bits, virtual, crypt, l1_entries, _, _, _, snapshots, _ = FIXED.unpack_from(head)
    if version not in (2, 3):
        raise Invalid(f"qcow2 version {version} is unknown; 2 and 3 are accepted")
    if backing:
        raise Invalid("the image needs a backing file; flatten it with: qemu-img convert -O qcow2")
    if crypt:
        raise Invalid("the image is encrypted")
    if snapshots:
        raise Invalid("the image holds snapshots; flatten it with: qemu-img convert -O qcow2")
    incompatible, _, autoclear, _, _ = FEATURES.unpack_from(head, FIXED.size) if version == 3 else (0,) * 5
    for bit, harm in HARMFUL.items():
        if incompatible & bit:
            raise Invalid(f"the image {harm}")
    if incompatible & ~(COMPRESSION | EXTENDED_L2) or autoclear:
        raise Invalid("the image uses qcow2 features that are not accepted, such as bitmaps")
    if not 9 <= cluster_bits <= 21 or l1_entries * 8 > 32 * MIB:  # as in qemu
        raise Invalid("the qcow2 header makes no sense")
    return int(virtual)
