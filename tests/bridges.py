"""A network's bridge on a host, as the overlay makes it, but without a VXLAN: what the resolver needs of it."""

from tests.namespaces import ip
from ucloud.driver.overlay.iproute import Link
from ucloud.driver.overlay.names import GATEWAY_MAC, bridge
from ucloud.driver.overlay.segments import mend_addresses
from ucloud.model.wiring import Segment, Service
from ucloud.network.wanted import gateway


def add_bridge(service: Service) -> None:
    """In the namespace that this thread is in."""
    name = bridge(service.vni)
    gateways = tuple(gateway(subnet) for subnet in (service.ipv6, service.ipv4) if subnet)
    segment = Segment(vni=service.vni, group="", mtu=service.mtu, gateways=gateways, public=service.routed)
    ip(
        f"link add {name} address {GATEWAY_MAC} type bridge mcast_snooping 0 forward_delay 0",
        f"link set {name} addrgenmode none",
        f"link set {name} up",
        *mend_addresses(segment, Link(ifname=name)),
    )
