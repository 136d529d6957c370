"""Whether networks are as they should be when all has come to rest. Part of `sim.convergence`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sim.records import Records
from ucloud.base.config import DEFAULTS
from ucloud.daemon.network import fake_hands, sets
from ucloud.firewall import rules
from ucloud.ipam import wanted as ipam
from ucloud.metadata import wanted as metadata
from ucloud.model import keys
from ucloud.model.key import HostBlob
from ucloud.model.network import Port
from ucloud.model.record import decode
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Thing
from ucloud.network import wanted as network

if TYPE_CHECKING:
    from sim.cloud import Cloud
    from sim.hosts import HostNode

CLAIMS = ("use/network/", "unique/address/")
OF_NETWORKS = ("unique/network/", "unique/vni/", "unique/subnet/", "unique/ipv4/")


def wrong_networks(cloud: "Cloud") -> Iterator[str]:
    yield from wrong_claims(cloud)
    yield from wrong_book(cloud)
    for host in cloud.hosts:
        yield from wrong_things(cloud, host)
        for vm, guest in host.machine.guests().items():
            told = cloud.invariants.records.manifests[host.name][vm]
            if guest.macs != {port.mac for port in told.ports}:
                yield f"the guest of {vm} has the interfaces {sorted(guest.macs)}, and should have those of {told}"
            for mac in sorted(mac for mac in guest.macs if not host.machine.links.is_plugged(vm, mac)):
                yield f"the guest of {vm} holds a plug for {mac} that is gone"


def wrong_claims(cloud: "Cloud") -> Iterator[str]:
    records = cloud.invariants.records
    wanted = {path for vm in records.vms.values() for port in vm.ports for path in keys.port_claims(vm.id, port)}
    wanted |= {path for entry in entries(records) for path in keys.port_claims(entry.vm, entry)}
    there = {item.key for prefix in CLAIMS for item in cloud.store.list(prefix).items}
    for path in sorted(wanted ^ there):
        yield f"{path} is {'lost' if path in wanted else 'left over'}"
    for item in (item for prefix in OF_NETWORKS for item in cloud.store.list(prefix).items):
        if cloud.invariants.addresses.owner(item.key) not in cloud.invariants.addresses.networks:
            yield f"{item.key} is left over"


def wrong_book(cloud: "Cloud") -> Iterator[str]:
    wanted = {entry.key: entry for entry in entries(cloud.invariants.records)}
    there = {item.key: decode(Port, item.value)[0] for item in cloud.store.list(Port.prefix).items}
    for key in sorted(wanted.keys() | there.keys()):
        if wanted.get(key) != there.get(key):
            yield f"{key} should be {wanted.get(key)}, and is {there.get(key)}"


def entries(records: Records) -> Iterator[Port]:
    """What the address book says when all is well: every port that a host was told of."""
    for manifest in (manifest for told in records.manifests.values() for manifest in told.values()):
        for port in manifest.ports:
            yield Port(
                network=port.network.id,
                vm=manifest.vm,
                name=manifest.name,
                mac=port.mac,
                ipv6=port.ipv6,
                ipv4=port.ipv4,
                host=manifest.host,
            )


def wrong_things(cloud: "Cloud", host: "HostNode") -> Iterator[str]:
    wanted = list(things(cloud, host))
    for kind, driver in sets(fake_hands(host.machine.links.sets.__getitem__)):
        should = {thing.key: thing for thing in wanted if type(thing) is kind}
        there = driver.actual()
        for key in sorted(should.keys() | there.keys()):
            if should.get(key) != there.get(key):
                yield f"the {driver.name} {key} of {host.name} should be {should.get(key)}, and is {there.get(key)}"


def user_data(cloud: "Cloud", told: Manifest) -> bytes:
    item = cloud.store.get(HostBlob.at(told.host, "blob", told.user_data))
    return decode(HostBlob, item.value)[0].data if item else b""


def things(cloud: "Cloud", host: "HostNode") -> Iterator[Thing]:
    """What the VMs with a guest there need, and what they need to know of each other."""
    here = [told for vm, told in cloud.invariants.records.manifests[host.name].items() if vm in host.machine.guests()]
    for manifest in here:
        yield from network.things(manifest, DEFAULTS.network.group)
        yield from rules.things(manifest)
        yield from ipam.things(manifest, DEFAULTS.network.domain)
        yield from metadata.things(manifest, DEFAULTS.network.domain, lambda told: user_data(cloud, told))
    vnis = {port.network.id: port.network.vni for manifest in here for port in manifest.ports}
    for item in cloud.store.list(Port.prefix).items:
        entry = decode(Port, item.value)[0]
        if entry.network in vnis:
            yield from ipam.neighbours(entry, vnis[entry.network])
