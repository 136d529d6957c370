"""Guests that the tests of this directory, of integration and of benchmarks tell who they are."""

from ucloud.model.network import ManifestPort, NetworkRef
from ucloud.model.wiring import Metadata

KEYS = ("ssh-ed25519 AAAAC3Nza me@desk", "ecdsa-sha2-nistp256 AAAAE2Vj")


def port(number: int, vni: int = 1, *, ipv4: bool = True) -> ManifestPort:
    """Of VM `number` in network `vni`."""
    network = NetworkRef(
        id=f"network-{vni}",
        name=f"n{vni}",
        vni=vni,
        ipv6=f"fd00:{vni:x}::/64",
        ipv4=f"10.{vni}.0.0/16" if ipv4 else "",
        mtu=1430,
    )
    return ManifestPort(
        network=network,
        mac=f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}",
        ipv6=f"fd00:{vni:x}::{number:x}",
        ipv4=f"10.{vni}.{number >> 8}.{number & 0xFF}" if ipv4 else "",
    )


def told(number: int, vni: int = 1, *, link_local: str = "", user_data: bytes = b"") -> Metadata:
    """What VM `number` is told through its only port."""
    own = port(number, vni)
    return Metadata(
        vm=f"vm-{number}",
        vni=vni,
        sources=(own.ipv6, link_local or f"fe80::{number:x}", own.ipv4),
        name=f"web{number}",
        domain=f"{own.network.name}.ucloud.internal",
        keys=KEYS,
        user_data=user_data,
        custom={"role": "db", "note": "a=b, c"},
        ports=(own,),
    )
