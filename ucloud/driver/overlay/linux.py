"""Networks across hosts on Linux: bridges, VXLANs, taps and routes, in the network namespace of whoever calls. Picked by
daemon/drivers.py; its sets are kept by `ucloud.host.network`.
"""

import os

from ucloud.driver.overlay import iproute
from ucloud.driver.overlay.plugs import Plugs
from ucloud.driver.overlay.segments import Segments

GROUPS_BYTES = 1 << 20  # for the multicast groups of about 18,000 networks
ROUTES = 1 << 20
NEIGHBOURS = {"gc_thresh1": 1024, "gc_thresh2": 8192, "gc_thresh3": 16384}


class LinuxOverlay:
    def __init__(self, uplink: str, address: str) -> None:
        """uplink: the interface to the other hosts. address: this host's IPv6 address on it."""
        self.segments, self.plugs = Segments(uplink, address), Plugs()

    def prepare(self) -> None:
        """Make the kernel ready: once at the start of a daemon, and again whenever somebody may have changed its settings.

        A limit is only ever raised, and only where this namespace has it: on older kernels some are the whole machine's. Raises
        Temporary where the kernel refuses."""
        keep_router_advertisements()
        iproute.set_kernel("ipv6/conf/all/forwarding", "1")
        for family in ("ip", "ip6", "arp"):  # bridged frames are filtered as such; those routed, once and as packets
            if iproute.kernel_value(setting := f"bridge/bridge-nf-call-{family}tables"):
                iproute.set_kernel(setting, "0")
        raise_limit("core/optmem_max", GROUPS_BYTES)
        raise_limit("ipv6/route/max_size", ROUTES)
        for name, value in NEIGHBOURS.items():
            for family in ("ipv4", "ipv6"):
                raise_limit(f"{family}/neigh/default/{name}", value)


def keep_router_advertisements() -> None:
    """A host that forwards takes no default route from router advertisements, unless told to (2): one that took them until now,
    on the operator's interfaces, goes on."""
    if iproute.kernel_value("ipv6/conf/all/forwarding") == "0":
        for interface in set(os.listdir(f"{iproute.SYSCTL}ipv6/conf")) - {"all", "default"}:
            setting = f"ipv6/conf/{interface}/accept_ra"
            if iproute.kernel_value(setting) == "1":
                iproute.set_kernel(setting, "2")


def raise_limit(setting: str, least: int) -> None:
    if (value := iproute.kernel_value(setting)) and int(value) < least:
        iproute.set_kernel(setting, str(least))
