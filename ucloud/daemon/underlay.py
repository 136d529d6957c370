"""The network of a cloud on one machine: a switch in a namespace of its own, to which every host and the machine are cabled.

Called by `ucloud up`, `down` and `lab`. Of the machine's own network only one interface is added; nothing is routed.
"""

import re

from ucloud.daemon.cloud import ETCD_PEER_PORT, ETCD_PORT, Cloud
from ucloud.driver.link.contract import End, Links

BRIDGE = "br0"
UPLINK = "up0"  # a host's interface on the underlay


def add(cloud: Cloud, links: Links) -> list[str]:
    """Make what is missing; every cable works again. Answers the hosts whose namespaces were missing."""
    links.add_namespace(cloud.underlay)
    links.add_bridge(cloud.underlay, BRIDGE)
    made = [host for host in cloud.hosts if links.add_namespace(cloud.namespace(host))]
    for host in cloud.hosts:
        address = f"{cloud.address(host)}/{cloud.subnet.prefixlen}"
        uplink = End(cloud.namespace(host), UPLINK, address=address)
        links.add_cable(End(cloud.underlay, host, bridge=BRIDGE), uplink)
    machine = End("", cloud.machine_link, address=f"{cloud.machine_address}/{cloud.subnet.prefixlen}")
    links.add_cable(End(cloud.underlay, "machine", bridge=BRIDGE), machine)
    for host in cloud.etcd_hosts:
        links.unmute(cloud.namespace(host))
    return made


def remove(cloud: Cloud, links: Links) -> None:
    links.remove_interface("", cloud.machine_link)
    for namespace in (*host_namespaces(cloud, links), cloud.underlay):
        links.remove_namespace(namespace)


def host_namespaces(cloud: Cloud, links: Links) -> list[str]:
    """Those that are there, of hosts that the cloud should have or not."""
    ours = re.compile(rf"{cloud.name}-h[0-9]")
    return sorted(namespace for namespace in links.namespaces() if ours.fullmatch(namespace))


def unplug(cloud: Cloud, host: str, links: Links) -> None:
    """At the switch: so the host keeps its address, and its daemons go on reaching each other."""
    links.unplug(cloud.underlay, host)


def plug(cloud: Cloud, host: str, links: Links) -> None:
    links.plug(cloud.underlay, host)


def mute_etcd(cloud: Cloud, host: str, links: Links) -> None:
    """The member of this host hears nothing and is not heard; everything else on the host is."""
    links.mute(cloud.namespace(host), served=[ETCD_PORT, ETCD_PEER_PORT], asked=[ETCD_PEER_PORT])
