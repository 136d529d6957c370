"""The metadata service as OpenStack has it: /openstack/VERSION/FILE. Pure; called by `answers.py`.

Formats: https://docs.openstack.org/nova/latest/user/metadata.html, and nova's doc/api_schemas/network_data.json. All versions
answer the same: what is new in one of them is not looked for by who asks for an older one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ucloud.metadata.content import BYTES, Content, json, lines
from ucloud.model.wiring import Metadata

VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "latest",
)


def look(names: Sequence[str], told: Metadata) -> Content | None:
    """names: of a path, without /openstack."""
    if not names:
        return lines(VERSIONS)
    version, *file = names
    if version not in VERSIONS:
        return None
    match file:
        case []:
            return lines(FILES)
        case [name] if name in FILES:
            return FILES[name](told)
    return None


def meta_data(told: Metadata) -> Content:
    keys = {f"key-{number}": line for number, line in enumerate(told.keys)}
    return json(
        {
            "uuid": told.vm,
            "name": told.name,
            "hostname": told.fqdn,
            "launch_index": 0,
            "public_keys": keys,
            "keys": [{"name": name, "type": "ssh", "data": line} for name, line in keys.items()],
            "meta": told.custom,
            "devices": [],
        }
    )


def network_data(told: Metadata) -> Content:
    """How to configure each port, the one for IPv6 first. Resolvers come by router advertisement and DHCP."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for number, port in enumerate(told.ports):
        link = f"port{number}"
        links.append({"id": link, "type": "phy", "ethernet_mac_address": port.mac, "mtu": port.network.mtu})
        kinds = {"ipv6": "ipv6_dhcpv6-stateful"} | ({"ipv4": "ipv4_dhcp"} if port.ipv4 else {})
        for family, kind in kinds.items():
            networks.append({"id": f"{link}-{family}", "type": kind, "link": link, "network_id": port.network.id})
    return json({"links": links, "networks": networks, "services": []})


def user_data(told: Metadata) -> Content | None:
    return Content(told.user_data, BYTES) if told.user_data else None


def nothing(told: Metadata) -> Content:
    return json({})


FILES: dict[str, Callable[[Metadata], Content | None]] = {
    "meta_data.json": meta_data,
    "network_data.json": network_data,
    "user_data": user_data,
    "vendor_data.json": nothing,
    "vendor_data2.json": nothing,
}
