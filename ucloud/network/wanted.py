"""Network manager: which networks and plugs a host needs for a VM. Pure; called by the host (`ucloud.host.network`)."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from ucloud.model.network import ManifestPort
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Plug, Segment


def things(manifest: Manifest, group_prefix: str) -> Iterator[Segment | Plug]:
    for port in manifest.ports:
        yield segment(port, group_prefix)
        yield Plug(
            vm=manifest.vm,
            vni=port.network.vni,
            mac=port.mac,
            mtu=port.network.mtu,
            addresses=(port.ipv6, *([port.ipv4] if port.ipv4 else [])),
            public=port.network.public,
        )


def segment(port: ManifestPort, group_prefix: str) -> Segment:
    network = port.network
    return Segment(
        vni=network.vni,
        group=group(group_prefix, network.vni),
        mtu=network.mtu,
        gateways=(gateway(network.ipv6), *([gateway(network.ipv4)] if network.ipv4 else [])),
        public=network.public,
    )


def group(prefix: str, vni: int) -> str:
    """The multicast group of a VXLAN: the site's prefix with the VNI in its low 24 bits, as ff05::64 for 100."""
    assert 0 < vni < 1 << 24, vni
    return str(IPv6Address(int(IPv6Address(prefix)) | vni))


def gateway(subnet: str) -> str:
    """The router's address there, with the prefix length: the first one, the same on every host."""
    network = IPv6Network(subnet) if ":" in subnet else IPv4Network(subnet)
    return f"{network[1]}/{network.prefixlen}"
