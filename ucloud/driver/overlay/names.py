"""How the interfaces of VMs' networks are called on a Linux host, and which routes are ucloud's. Used by the drivers of a host
that speak of the same interfaces: overlay/, packetfilter/, resolver/, announcer/. A name has at most 15 bytes."""

BRIDGE, VXLAN, TAP = "ubr", "uvx", "ut"  # what each name begins with
# "protocol" of routes to VMs (rtnetlink(7)): told to the routers outside, or not. No routing daemon has these numbers.
ROUTE_PUBLIC, ROUTE_PRIVATE = 201, 202
GATEWAY_MAC = "00:00:5e:00:02:01"  # the router's on every host: VRRP's virtual router 1 (RFC 9568), never a VM's
GATEWAY = "fe80::1"
# Where guests of other clouds look for metadata; every host has these on each bridge, the last one where there is IPv4.
METADATA_LOCAL, METADATA6, METADATA4 = "fe80::a9fe:a9fe", "fd00:ec2::254", "169.254.169.254"
METADATA_PORT = 80


def bridge(vni: int) -> str:
    return f"{BRIDGE}{vni:06x}"


def vni(bridge: str) -> int:
    """Of the network that it is for. Raises ValueError for other interfaces."""
    if not bridge.startswith(BRIDGE):
        raise ValueError(f"{bridge} is no bridge of a network")
    return int(bridge.removeprefix(BRIDGE), 16)


def vxlan(vni: int) -> str:
    return f"{VXLAN}{vni:06x}"


def tap(vni: int, vm: str) -> str:
    """Two VMs with ids that end alike would share a name; whoever adds one looks at whose it is (its alias)."""
    return f"{TAP}{vni:06x}{vm[-7:]}"
