"""What a VM's manifest asks of its host: which guest. Pure; used by the host's loop."""

from collections.abc import Mapping
from types import MappingProxyType

from ucloud.model.guest import GuestDisk, GuestNic, GuestSpec
from ucloud.model.vm import Manifest


def guest(
    manifest: Manifest,
    attachments: Mapping[str, GuestDisk],
    nics: tuple[GuestNic, ...] = (),
    cidata: Mapping[str, bytes] = MappingProxyType({}),
) -> GuestSpec:
    """The guest to be, its disks in the manifest's order; `attachments` says by name how each is opened."""
    return GuestSpec(
        vm=manifest.vm,
        name=manifest.name,
        epoch=manifest.epoch,
        boots=manifest.boots,
        cpus=manifest.cpus,
        memory_mib=manifest.memory_mib,
        disks=tuple(attachments[disk.name] for disk in manifest.disks),
        nics=nics,
        cidata=cidata,
        leased=manifest.needs_lease,
    )
