"""What may come from a VM: its own addresses and no other, and nothing that only a router or a DHCP server says. Pure and
free of any platform; called by the host (`ucloud.host.network`), brought about by driver/packetfilter."""

from collections.abc import Iterator

from ucloud.model.vm import Manifest
from ucloud.model.wiring import PortFilter


def things(manifest: Manifest) -> Iterator[PortFilter]:
    for port in manifest.ports:
        yield PortFilter(
            vm=manifest.vm,
            vni=port.network.vni,
            mac=port.mac,
            addresses=(port.ipv6, *([port.ipv4] if port.ipv4 else [])),
            allow=() if port.network.public else port.allow,
        )
