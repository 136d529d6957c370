"""Which services a host gives to the networks of a VM: router advertisements, DHCP, DNS. Pure; called by the host
(`ucloud.host.network`)."""

from collections.abc import Iterator

from ucloud.model import eui64
from ucloud.model.network import Port
from ucloud.model.vm import Manifest
from ucloud.model.wiring import HostName, Reservation, Service, Taken


def things(manifest: Manifest, domain: str) -> Iterator[Service | Reservation]:
    for port in manifest.ports:
        network = port.network
        yield Service(
            vni=network.vni,
            ipv6=network.ipv6,
            ipv4=network.ipv4,
            mtu=network.mtu,
            slaac=network.slaac,
            routed=network.public,
            domain=f"{network.name}.{domain}",
        )
        yield Reservation(vm=manifest.vm, vni=network.vni, name=manifest.name, mac=port.mac, ipv6=port.ipv6, ipv4=port.ipv4)


def neighbours(port: Port, vni: int) -> Iterator[HostName | Taken]:
    """What the network of a host's VM needs to know of another one on it, here or elsewhere."""
    addresses = (port.ipv6, *([port.ipv4] if port.ipv4 else []))
    yield HostName(vm=port.vm, vni=vni, name=port.name, addresses=addresses)
    yield Taken(vni=vni, address=eui64.link_local(port.mac))
