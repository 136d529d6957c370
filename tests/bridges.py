"""A network's bridge on a host, as the overlay makes it, but without a VXLAN: what the resolver needs of it."""

from tests.namespaces import ip
from ucloud.driver.overlay.names import GATEWAY, GATEWAY_MAC, bridge
from ucloud.model.wiring import Service
from ucloud.network.wanted import gateway


def add_bridge(service: Service) -> None:
    """In the namespace that this thread is in."""
    name = bridge(service.vni)
    gateways = [gateway(subnet) for subnet in (service.ipv6, service.ipv4) if subnet]
    ip(
        f"link add {name} address {GATEWAY_MAC} type bridge mcast_snooping 0 forward_delay 0",
        f"link set {name} addrgenmode none",
        f"link set {name} up",
        f"address add {GATEWAY}/64 dev {name} nodad",
        *(f"address add {address} dev {name} noprefixroute{' nodad' if ':' in address else ''}" for address in gateways),
    )
