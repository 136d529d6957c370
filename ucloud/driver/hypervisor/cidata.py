"""A guest's cidata disk: files on an ISO 9660 file system of that name, which cloud-init looks for (NoCloud) and every
operating system can read. Called by qemu.py at each start.

It is in memory alone and sealed: neither qemu nor who broke out of it can change it, it has no name in any file system, and is
gone with the guest.
"""

import fcntl
import io
import os
from collections.abc import Mapping

from pycdlib import PyCdlib

LABEL = "cidata"
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def open_cidata(files: Mapping[str, bytes]) -> int:
    """A descriptor to read the disk from. The caller closes it. Raises OSError."""
    made = os.memfd_create(LABEL, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(made, "wb", closefd=False) as file:
            file.write(image(files))
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, SEALS)
        return os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)


def image(files: Mapping[str, bytes]) -> bytes:
    """Names are kept as they are by Rock Ridge and Joliet; the short ones below them serve nobody but must differ."""
    iso, written = PyCdlib(), io.BytesIO()
    iso.new(interchange_level=3, vol_ident=LABEL, rock_ridge="1.09", joliet=3)
    for number, (name, data) in enumerate(files.items()):
        iso.add_fp(io.BytesIO(data), len(data), f"/{number}.;1", rr_name=name, joliet_path=f"/{name}")
    iso.write_fp(written)
    iso.close()
    return written.getvalue()
