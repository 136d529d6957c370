"""The network of a cloud on one machine: a switch in a namespace of its own, to which every host and a router are cabled.

The router, in a namespace too, leads to the machine: of its own network one interface and one route are added. bird (a daemon
of the supervisor's) tells it on which hosts the public VMs are. Called by `ucloud up`, `down` and `lab`.
"""

import re

from ucloud.daemon.cloud import ETCD_PEER_PORT, ETCD_PORT, ROUTER, UPLINK, Cloud
from ucloud.driver.link.contract import End, Links, Router

BRIDGE = "br0"
MACHINE = "machine"  # the router's interface to the machine


def add(cloud: Cloud, links: Links) -> list[str]:
    """Make what is missing; every cable works again. Answers the namespaces with daemons that were missing."""
    links.add_namespace(cloud.underlay)
    links.add_bridge(cloud.underlay, BRIDGE)
    made = [namespace for namespace in (cloud.router, *map(cloud.namespace, cloud.hosts)) if links.add_namespace(namespace)]
    router = End(cloud.router, UPLINK, address=f"{cloud.router_address}/{cloud.subnet.prefixlen}")
    links.add_cable(End(cloud.underlay, ROUTER, bridge=BRIDGE), router)
    add_way_out(cloud, links)
    for host in cloud.hosts:
        add_host(cloud, host, links)
    for host in cloud.etcd_hosts:
        links.unmute(cloud.namespace(host))
    return made


def add_host(cloud: Cloud, host: str, links: Links) -> None:
    uplink = End(cloud.namespace(host), UPLINK, address=f"{cloud.address(host)}/{cloud.subnet.prefixlen}")
    links.add_cable(End(cloud.underlay, host, bridge=BRIDGE), uplink)
    links.add_route(cloud.namespace(host), "default", str(cloud.router_address))


def add_way_out(cloud: Cloud, links: Links) -> None:
    inner, outer = (f"{cloud.link_subnet[number]}" for number in (1, 2))
    length = cloud.link_subnet.prefixlen
    parts = {"underlay": str(cloud.subnet), "public": str(cloud.public), "machine": str(cloud.link_subnet)}
    links.make_router(Router(cloud.router, inside=UPLINK, outside=MACHINE, **parts))
    links.add_cable(
        End(cloud.router, MACHINE, address=f"{inner}/{length}"), End("", cloud.machine_link, address=f"{outer}/{length}")
    )
    links.add_route("", str(cloud.prefix), inner)


def remove(cloud: Cloud, links: Links) -> None:
    links.remove_interface("", cloud.machine_link)
    for namespace in (*namespaces(cloud, links), cloud.underlay):
        links.remove_namespace(namespace)


def namespaces(cloud: Cloud, links: Links) -> list[str]:
    """Those with daemons that are there, of hosts that the cloud should have or not."""
    ours = re.compile(rf"{cloud.name}-(h[0-9]|{ROUTER})")
    return sorted(namespace for namespace in links.namespaces() if ours.fullmatch(namespace))


def unplug(cloud: Cloud, host: str, links: Links) -> None:
    """At the switch: so the host keeps its address, and its daemons go on reaching each other."""
    links.unplug(cloud.underlay, host)


def plug(cloud: Cloud, host: str, links: Links) -> None:
    links.plug(cloud.underlay, host)


def blank(cloud: Cloud, host: str, links: Links) -> None:
    """As after a power cut: nothing is left of all that was set up in the host's network. It is unplugged."""
    links.remove_interface(cloud.underlay, host)
    links.remove_namespace(cloud.namespace(host))
    links.add_namespace(cloud.namespace(host))
    add_host(cloud, host, links)
    unplug(cloud, host, links)


def mute_etcd(cloud: Cloud, host: str, links: Links) -> None:
    """The member of this host hears nothing and is not heard; everything else on the host is."""
    links.mute(cloud.namespace(host), served=[ETCD_PORT, ETCD_PEER_PORT], asked=[ETCD_PEER_PORT])
