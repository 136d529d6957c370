"""How VMs are shown, made from all records about them. Used by every route that answers with one."""

from typing import Annotated

from msgspec import Meta, Struct

from ucloud.api import phase
from ucloud.api.fields import Id, Timestamp
from ucloud.api.phase import Phase, Waiting
from ucloud.api.records import Source
from ucloud.base.ids import is_id
from ucloud.model.host import Host
from ucloud.model.image import Image
from ucloud.model.key import Key
from ucloud.model.network import Allowed, Network, VmPort
from ucloud.model.record import Fact
from ucloud.model.vm import Ha, Power, Priority, Vm


class PortShown(Struct, frozen=True, kw_only=True):
    """A VM's interface on a network."""

    network: Annotated[str, Meta(description="its name")]
    network_id: Id
    mac: str
    ipv6: str
    ipv4: Annotated[str, Meta(description="empty: none")]
    allow: Annotated[list[Allowed], Meta(description="what its guest may do there that others may not")]


class UserDataShown(Struct, frozen=True):
    """Which user data a VM has."""

    sha256: str
    bytes: int


class VmShown(Struct, frozen=True, kw_only=True):
    """A VM: what is wanted of it, and how it is."""

    id: Id
    name: str
    project: str
    phase: Phase
    host: Annotated[str, Meta(description="name of the host that owns it; empty while none does")]
    host_id: str
    epoch: Annotated[int, Meta(description="rises with every owner")]
    boots: Annotated[int, Meta(description="how often it was told to start")]
    cpus: int
    memory_mib: int
    disk_mib: int
    addresses: Annotated[list[str], Meta(description="of all its ports, those of IPv6 first")]
    ports: list[PortShown]
    image: Annotated[str, Meta(description="name of the image that its disk was cloned from")]
    image_id: Id
    pool: str
    user: Annotated[str, Meta(description="as whom to log in: a property of its image")]
    keys: Annotated[list[str], Meta(description="names of the SSH keys with which one may log in")]
    user_data: UserDataShown | None
    metadata: Annotated[dict[str, str], Meta(description="what its owner tells its guest")]
    power: Power
    wanted_host: str
    spread: str
    ha: Ha
    priority: Priority
    labels: dict[str, str]
    delete_protection: bool
    created: Timestamp
    deleted_at: Timestamp | None
    reason: Annotated[str, Meta(description="the last decision about it, in words")]
    waiting_for: Waiting | None
    error: Annotated[str, Meta(description="the last failure; empty after a success")]
    crashes: int


def _name_of_host(source: Source, wish: str) -> str:
    host = source.get(Host, Host.at(wish)) if is_id(wish) else None
    return host.record.name if host else wish


def _name_of_key(source: Source, id: str) -> str:
    key = source.get(Key, Key.at(id))
    return key.record.name if key else id


def show(fact: Fact[Vm], source: Source) -> VmShown:
    return show_sight(phase.gather(source, fact), source)


def show_sight(sight: phase.Sight, source: Source) -> VmShown:
    """What was gathered already. source: for the names of image, networks and host."""
    vm, state, placement = sight.vm.record, phase.state(sight), sight.placement
    image = source.get(Image, Image.at(vm.image))
    return VmShown(
        id=vm.id,
        name=vm.name,
        project=vm.project,
        phase=state.phase,
        host=sight.host_name,
        host_id=placement.host if placement else "",
        epoch=placement.epoch if placement else 0,
        boots=vm.boots,
        cpus=vm.cpus,
        memory_mib=vm.memory_mib,
        disk_mib=vm.disk_mib,
        addresses=[port.ipv6 for port in vm.ports] + [port.ipv4 for port in vm.ports if port.ipv4],
        ports=[show_port(port, source) for port in vm.ports],
        image=image.record.name if image else vm.image,
        image_id=vm.image,
        pool=vm.pool,
        user=image.record.user if image else "root",
        keys=[_name_of_key(source, id) for id in vm.keys],
        user_data=UserDataShown(vm.user_data, vm.user_data_bytes) if vm.user_data else None,
        metadata=vm.metadata,
        power=vm.power,
        wanted_host=_name_of_host(source, vm.host),
        spread=vm.spread,
        ha=vm.ha,
        priority=vm.priority,
        labels=vm.labels,
        delete_protection=vm.delete_protection,
        created=vm.created,
        deleted_at=vm.deleted_at or None,
        reason=state.reason,
        waiting_for=state.waiting,
        error=sight.status.error if sight.status else "",
        crashes=sight.status.crashes if sight.status else 0,
    )


def show_port(port: VmPort, source: Source) -> PortShown:
    network = source.get(Network, Network.at(port.network))
    return PortShown(
        network=network.record.name if network else port.network,
        network_id=port.network,
        mac=port.mac,
        ipv6=port.ipv6,
        ipv4=port.ipv4,
        allow=list(port.allow),
    )
