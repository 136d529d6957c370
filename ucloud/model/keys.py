"""Keys that are not the key of a single record type, and the root under which all keys live.

All keys in ucloud are written without the root; only the etcd driver adds it. A prefix ends with a slash: `alive/h1`
would also match `alive/h10`.
"""

from ucloud.model.network import Port, VmPort

ROOT = "/ucloud/v1/"


def unique(kind: str, *parts: str) -> str:
    """Exists once: `unique/vm/default/web`; its value is a `Unique`."""
    return "/".join(("unique", kind, *parts))


def use(kind: str, id: str, user: str) -> str:
    """`user` needs the `kind` named `id`, which therefore can't be deleted: `use/image/image-01…/vm-01…`."""
    return f"use/{kind}/{id}/{user}"


def used_by(kind: str, id: str) -> str:
    """The prefix of all `use` keys of one thing."""
    return f"use/{kind}/{id}/"


def port_claims(vm: str, port: VmPort | Port) -> tuple[str, ...]:
    """What a VM's port claims while it is its: the use of the network, and its addresses there (IPv6 follows from the MAC)."""
    addresses = (unique("address", port.network, address) for address in (port.mac, port.ipv4) if address)
    return (use("network", port.network, vm), *addresses)


def ports(network: str) -> str:
    return f"port/{network}/"


def lock(loop: str) -> str:
    return f"lock/{loop}"


def fence(host: str) -> str:
    return f"fence/{host}"


def manifests(host: str) -> str:
    return f"manifest/{host}/"


def statuses(host: str) -> str:
    return f"status/{host}/"
