"""The files of a VM's cidata disk: cloud-init's NoCloud, for guests that have no network yet. Pure; called by the host's
loop, and by `answers.py`, which tells the same over HTTP.

Formats: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html and …/network-config-format-v2.html. JSON
is YAML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ucloud.model.network import ManifestPort
from ucloud.model.vm import Manifest


def files(manifest: Manifest, user_data: bytes) -> Mapping[str, bytes]:
    """By their names. A guest without ports is not told how to configure any."""
    known = meta_data(manifest.vm, manifest.name, manifest.keys, manifest.metadata)
    told = {"meta-data": as_yaml(known), "user-data": user_data}
    if manifest.ports:
        told["network-config"] = as_yaml(network_config(manifest.ports))
    return told


def meta_data(vm: str, name: str, keys: Sequence[str], custom: Mapping[str, str]) -> dict[str, Any]:
    return {"instance-id": vm, "local-hostname": name, "public-keys": keys, "custom": custom}


def network_config(ports: tuple[ManifestPort, ...]) -> dict[str, Any]:
    """Everything else comes by router advertisements and DHCP, search domains too, which networkd takes only when told."""
    domains = {"use-domains": True}
    ethernets = {
        f"port{number}": {
            "match": {"macaddress": port.mac},
            "mtu": port.network.mtu,
            "accept-ra": True,
            "dhcp6": True,
            "dhcp6-overrides": domains,
            **({"dhcp4": True, "dhcp4-overrides": domains} if port.ipv4 else {}),
        }
        for number, port in enumerate(ports)
    }
    return {"version": 2, "ethernets": ethernets}


def as_yaml(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"
