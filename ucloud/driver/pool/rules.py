"""What every pool refuses, in the same words. Called by the drivers of this directory, fake included."""

from ucloud.base.errors import Conflict, Invalid, NoCapacity
from ucloud.base.ids import NAME_PATTERN

MIB = 1024 * 1024


def check_ids(*ids: str) -> None:
    """Ids and disk names become file names: nothing but a–z, 0–9 and - may pass."""
    for text in ids:
        if not NAME_PATTERN.fullmatch(text):
            raise Invalid(f"{text[:80]!r} names no image, VM or disk")


def check_upload(received: int, size: int, found: str, sha256: str) -> None:
    if received < size:
        raise Invalid(f"the upload ended after {received} of {size} bytes", {"bytes": received})
    if received > size:
        raise Invalid(f"the upload has more than the {size} bytes announced", {"bytes": received})
    if found != sha256:
        raise Invalid(f"the upload has the SHA-256 {found}, announced was {sha256}", {"sha256": found})


def check_start(start: int, there: int) -> None:
    if start > there:
        raise Conflict(f"the upload cannot go on at byte {start}, as {there} bytes are there", {"received_bytes": there})


def no_room(pool: str, needed_bytes: int, free_bytes: int) -> NoCapacity:
    return NoCapacity(
        f"pool {pool} is full: {-(-needed_bytes // MIB)} MiB are needed, {free_bytes // MIB} MiB are free",
        {"needed_bytes": needed_bytes, "free_bytes": free_bytes},
    )


def check_growth(size_mib: int, image_mib: int) -> None:
    if size_mib < image_mib:
        raise Invalid(f"a disk of {size_mib} MiB is too small for an image of {image_mib} MiB", {"disk_mib": image_mib})
