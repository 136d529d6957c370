"""The network of a cloud on one machine: a switch in a namespace of its own, to which every host and the machine are cabled.

Called by `ucloud up` and `down`. Of the machine's own network only one interface is added; nothing is routed.
"""

from ucloud.daemon.cloud import Cloud
from ucloud.driver.link.contract import End, Links

BRIDGE = "br0"
UPLINK = "up0"  # a host's interface on the underlay


def add(cloud: Cloud, links: Links) -> bool:
    """Make what is missing. Answers whether a host's namespace was: then nothing that still runs is where it belongs."""
    links.add_namespace(cloud.underlay)
    links.add_bridge(cloud.underlay, BRIDGE)
    made = [links.add_namespace(cloud.namespace(host)) for host in cloud.hosts]
    for host in cloud.hosts:
        address = f"{cloud.address(host)}/{cloud.subnet.prefixlen}"
        uplink = End(cloud.namespace(host), UPLINK, address=address)
        links.add_cable(End(cloud.underlay, host, bridge=BRIDGE), uplink)
    machine = End("", cloud.machine_link, address=f"{cloud.machine_address}/{cloud.subnet.prefixlen}")
    links.add_cable(End(cloud.underlay, "machine", bridge=BRIDGE), machine)
    return any(made)


def remove(cloud: Cloud, links: Links) -> None:
    links.remove_interface("", cloud.machine_link)
    for namespace in sorted(links.namespaces()):
        if namespace in {cloud.underlay, *map(cloud.namespace, cloud.hosts)}:
            links.remove_namespace(namespace)
