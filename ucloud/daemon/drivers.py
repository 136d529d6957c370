"""Which driver is used where: the only table that knows them all."""

import functools
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path
from typing import Protocol

from ucloud.base.config import Config
from ucloud.base.errors import Invalid
from ucloud.daemon.network import Hands, fake_hands
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.driver.machine import linux as machine
from ucloud.driver.pool.contract import Pool

__all__ = ["hypervisor", "machine", "network", "pool", "reaper"]

Reaper = Callable[[], frozenset[str]]  # ends every guest that must not outlive the lease; answers the VMs whose there were


class PoolIdentity(Protocol):
    """What `model.image.Pool` and `model.vm.PoolRef` share."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> str: ...


def qemu(config: Config) -> Hypervisor:
    from ucloud.driver.hypervisor.qemu import QemuHypervisor

    return QemuHypervisor(Path(config.host.run_dir), Path(config.host.state_dir), accel=config.host.accel)


def fake(config: Config) -> Hypervisor:
    from ucloud.driver.hypervisor.fake import FakeHypervisor, GuestDirectory

    return FakeHypervisor(GuestDirectory(Path(config.host.run_dir) / "fake"))


HYPERVISORS: dict[str, Callable[[Config], Hypervisor]] = {"qemu": qemu, "fake": fake}


def qemu_reaper(config: Config) -> Reaper:
    from ucloud.driver.hypervisor.reaper import QemuReaper

    return QemuReaper(Path(config.host.run_dir)).kill


def fake_reaper(config: Config) -> Reaper:
    from ucloud.driver.hypervisor.reaper import FakeReaper

    return FakeReaper(Path(config.host.run_dir)).kill


REAPERS: dict[str, Callable[[Config], Reaper]] = {"qemu": qemu_reaper, "fake": fake_reaper}


def reaper(config: Config) -> Reaper:
    return REAPERS[config.host.hypervisor](config)


def hypervisor(config: Config) -> Hypervisor:
    return HYPERVISORS[config.host.hypervisor](config)


def fake_network(config: Config) -> Hands:
    from ucloud.driver.things import FakeThings
    from ucloud.driver.things_file import ThingsFile

    directory = Path(config.host.run_dir) / "network"
    return fake_hands(lambda name: FakeThings(name, ThingsFile(directory / name)))


def linux_network(config: Config) -> Hands:
    from ucloud.driver.announcer.bird import BirdAnnouncer
    from ucloud.driver.metadata.files import DIRECTORY, MetadataFiles
    from ucloud.driver.overlay.linux import LinuxOverlay
    from ucloud.driver.packetfilter.nft import NftPacketFilter
    from ucloud.driver.resolver.dnsmasq import DnsmasqResolver

    address, settings = config.host.address, config.network
    uplink = machine.interface_with(address)
    if uplink is None:
        raise Invalid(f"[host] address: no interface of this machine has {address}")
    underlay = settings.underlay or (str(IPv6Network(f"{address}/64", strict=False)),)
    overlay, packet_filter = LinuxOverlay(uplink, address), NftPacketFilter(uplink, underlay)
    resolver = DnsmasqResolver(Path(config.host.run_dir), settings.resolvers)
    announcer = BirdAnnouncer(
        Path(config.host.run_dir), address, settings.routers, settings.host_as, settings.router_as, settings.public
    )
    prepare = functools.cache(packet_filter.prepare)  # once: what somebody changes afterwards its sets mend themselves

    def care() -> list[str]:
        prepare()
        overlay.prepare()
        return ["what tells the routers where public VMs are"] if announcer.keep() else []

    return Hands(
        segments=overlay.segments,
        zones=packet_filter.zones,
        filters=packet_filter.filters,
        taken=packet_filter.taken,
        plugs=overlay.plugs,
        services=resolver.services,
        reservations=resolver.reservations,
        names=resolver.names,
        metadata=MetadataFiles(Path(config.host.run_dir) / DIRECTORY),
        interface=overlay.plugs.interface,
        care=care,
    )


NETWORKS: dict[str, Callable[[Config], Hands]] = {"fake": fake_network, "linux": linux_network}


def network(config: Config) -> Hands:
    return NETWORKS[config.network.driver](config)


def directory(name: str, path: str) -> Pool:
    from ucloud.driver.pool.directory import DirectoryPool

    return DirectoryPool(name, Path(path))


def hollow(name: str, path: str) -> Pool:
    from ucloud.driver.pool.hollow import HollowPool

    return HollowPool(name, Path(path))


POOLS: dict[str, Callable[[str, str], Pool]] = {"directory": directory, "fake": hollow}


@functools.cache
def _pool(name: str, kind: str, path: str) -> Pool:
    if kind not in POOLS:  # a daemon of a newer version may know it
        raise Invalid(f"pool {name}: its kind {kind!r} is unknown here")
    return POOLS[kind](name, path)


def pool(identity: PoolIdentity) -> Pool:
    return _pool(identity.name, identity.kind, identity.path)
