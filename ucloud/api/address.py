"""What a VM's new port gets: MAC and addresses, claimed in the transaction that makes it. Used where VMs are made and attached.

The claims (`ucloud.model.keys.port_claims`) keep the network, and keep anybody else from having the same addresses there.
"""

from ucloud.api.records import Source, Wish
from ucloud.api.services import services
from ucloud.base.errors import NoCapacity
from ucloud.ipam import allocate
from ucloud.model import eui64, keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.network import Allowed, Network, VmPort


def add_port(wish: Wish, vm: str, network: Network, source: Source, allow: tuple[Allowed, ...] = ()) -> VmPort:
    """source: what it does not know of is hoped to be free; the commit requires it. Raises NoCapacity."""
    mac = _mac(network.id, vm, source)
    ipv4 = _ipv4(network, mac, source) if network.ipv4 else ""
    port = VmPort(network=network.id, mac=mac, ipv6=eui64.address(network.ipv6, mac), ipv4=ipv4, allow=allow)
    for path in keys.port_claims(vm, port):
        wish.claim(path, vm)
    return port


def _claim(network: str, address: str) -> str:
    return keys.unique("address", network, address)


def _mac(network: str, vm: str, source: Source) -> str:
    attempt = 0
    while source.get(Unique, _claim(network, mac := allocate.mac(network, vm, attempt))):
        attempt += 1
    return mac


def _ipv4(network: Network, mac: str, source: Source) -> str:
    address = allocate.ipv4(network.ipv4, mac, Taken(network.id, source))
    if address is None:
        why = f"all addresses of {network.ipv4} are taken in the network {network.name}"
        raise NoCapacity(f"{why}; detach or delete a VM there, or make another network")
    return address


class Taken:
    """The addresses in a network that are somebody's. The first that is asked for is mostly free, so all are read only when it
    is not."""

    def __init__(self, network: str, source: Source) -> None:
        self._network, self._source = network, source
        self._all: frozenset[str] | None = None

    def __contains__(self, address: object) -> bool:
        path = _claim(self._network, str(address))
        if self._all is None:
            if self._source.get(Unique, path) is None:
                return False
            items = services().store.list(_claim(self._network, "")).items
            self._all = frozenset(item.key for item in items)
        return path in self._all
