"""qemu's locks on disk images: whoever opens an image that another process writes to is refused. Called by the drivers that
start qemu and qemu-img on disks, which a host that died may still have, for a moment or for as long as it stands still."""

import re

REFUSED = re.compile(r'Failed to get (shared )?"[a-z ]+" lock')


def is_locked(complaint: str) -> bool:
    """Whether this is what qemu, or qemu-img, says when another process has an image."""
    return bool(REFUSED.search(complaint))


def words(disk: str, complaint: str) -> str:
    return f"{disk} is still locked, by a guest that another host had, or by another process ({complaint})"
