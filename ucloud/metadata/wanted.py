"""What the guests of a host are told of themselves. Pure; called by the host (`ucloud.host.network`)."""

from collections.abc import Callable, Iterator

from ucloud.model import eui64
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Metadata


def things(manifest: Manifest, domain: str, user_data: Callable[[Manifest], bytes]) -> Iterator[Metadata]:
    """user_data: what its manifest names by a hash."""
    for port in manifest.ports:
        yield Metadata(
            vm=manifest.vm,
            vni=port.network.vni,
            sources=(port.ipv6, eui64.link_local(port.mac), *([port.ipv4] if port.ipv4 else [])),
            name=manifest.name,
            domain=f"{port.network.name}.{domain}",
            keys=manifest.keys,
            user_data=user_data(manifest),
            custom=manifest.metadata,
            ports=manifest.ports,
        )
