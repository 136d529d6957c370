"""The metadata service as EC2 has it: /VERSION/meta-data/… and /VERSION/user-data. Pure; called by `answers.py`.

Format: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html. A directory answers with its names,
one a line, those of directories with a slash. All versions answer the same. What only Amazon has (images and types by name,
zones, roles, identity documents) is not there.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ucloud.metadata.content import BYTES, Content, lines, text
from ucloud.model.network import ManifestPort
from ucloud.model.wiring import Metadata

VERSIONS = ("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest")  # those that cloud-init looks for

Node: TypeAlias = "Mapping[str, Node] | str | bytes"


def look(names: Sequence[str], told: Metadata) -> Content | None:
    """names: of a path, without the version."""
    node: Node = {"meta-data": meta_data(told)} | ({"user-data": told.user_data} if told.user_data else {})
    for name in names:
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    match node:
        case str():
            return text(node)
        case bytes():
            return Content(node, BYTES)
    if names == ["meta-data", "public-keys"]:
        return lines(f"{number}=key-{number}" for number in node)
    return lines(f"{name}/" if isinstance(child, Mapping) else name for name, child in node.items())


def meta_data(told: Metadata) -> dict[str, Node]:
    """mac, addresses: of the VM's first port, the IPv4 of the first that has one."""
    known: dict[str, Node] = {
        "ami-launch-index": "0",
        "hostname": told.fqdn,
        "instance-id": told.vm,
        "local-hostname": told.fqdn,
    }
    for port in told.ports[:1]:
        known |= {"mac": port.mac, "ipv6": port.ipv6}
    for ipv4 in [port.ipv4 for port in told.ports if port.ipv4][:1]:
        known["local-ipv4"] = ipv4
    if told.ports:
        macs = {port.mac: interface(number, port, told) for number, port in enumerate(told.ports)}
        known["network"] = {"interfaces": {"macs": macs}}
    if told.keys:
        known["public-keys"] = {f"{number}": {"openssh-key": line} for number, line in enumerate(told.keys)}
    return known


def interface(number: int, port: ManifestPort, told: Metadata) -> dict[str, Node]:
    known: dict[str, Node] = {
        "device-number": f"{number}",
        "ipv6s": port.ipv6,
        "local-hostname": told.fqdn,
        "mac": port.mac,
        "subnet-ipv6-cidr-blocks": port.network.ipv6,
    }
    if port.ipv4:
        known |= {"local-ipv4s": port.ipv4, "subnet-ipv4-cidr-block": port.network.ipv4}
    return known
