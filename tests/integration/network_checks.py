"""The checker's part of networks: no address twice, nothing claimed or wired that is nobody's, all ports where VMs run."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.integration.everything import Everything
from tests.integration.people import Remembered, RememberedNetwork
from ucloud.api import network as api_network
from ucloud.model import eui64, keys
from ucloud.model.network import ManifestPort, Network, Port, VmPort
from ucloud.model.vm import Manifest, Placement
from ucloud.model.wiring import HostName, Plug, PortFilter, Taken

CLAIMS = ("use/network/", *(f"unique/{kind}/" for kind in ("address", "network", "vni", "subnet", "ipv4")))


def lost(seen: Everything, told: Sequence[Remembered], networks: Sequence[RememberedNetwork]) -> Iterator[str]:
    """What was answered is so."""
    names = {network.id: network.name for network in seen.all(Network)}
    for network in networks:
        if network.id and network.deleted == "no" and network.id not in names:
            yield f"the network {network.name} is lost: its create was answered and nobody deleted it"
        if network.deleted == "yes" and network.id in names:
            yield f"the network {network.name} is there although its delete was answered"
    for vm in told:
        record = seen.vms.get(vm.id)
        if record is None or vm.deleted != "no":
            continue
        is_on = {names.get(port.network, f"{port.network}, which is gone") for port in record.ports}
        wrong = {name for name, answer in vm.networks.items() if answer == ("no" if name in is_on else "yes")}
        if wrong or (vm.networks and is_on - vm.networks.keys()):
            yield f"{vm.name} is on {sorted(is_on)}, and {vm.networks} was answered last"


def unlike(seen: Everything) -> Iterator[str]:
    yield from addresses_twice(seen)
    yield from claims_unlike(seen)
    yield from book_unlike(seen)
    yield from ports_unlike(seen)
    for host in seen.wired:
        yield from wiring_unlike(seen, host)


def addresses_twice(seen: Everything) -> Iterator[str]:
    """Among VMs, and in the address book."""
    ports: list[VmPort] | list[Port]
    for ports in ([port for vm in seen.vms.values() for port in vm.ports], seen.all(Port)):
        used = Counter((port.network, address) for port in ports for address in addresses(port))
        yield from (f"{count} ports on {network} have {address}" for (network, address), count in used.items() if count > 1)


def addresses(port: VmPort | ManifestPort | Port) -> list[str]:
    return [address for address in (port.mac, port.ipv6, port.ipv4) if address]


def claims_unlike(seen: Everything) -> Iterator[str]:
    """Each port and each network has claimed what is its own, and nothing is claimed for nobody."""
    ports = ((vm.id, port) for vm in seen.vms.values() for port in vm.ports)
    wanted = {key for vm, port in ports for key in keys.port_claims(vm, port)}
    wanted.update(key for network in seen.all(Network) for key in api_network.claims(network))
    found = {key for key in seen.records if key.startswith(CLAIMS)}
    yield from (f"the key {key} is left over" for key in sorted(found - wanted))
    yield from (f"the key {key} is missing" for key in sorted(wanted - found))


def book_unlike(seen: Everything) -> Iterator[str]:
    """The address book has all VMs, as all are placed when all is well."""
    hosts = {placement.vm: placement.host for placement in seen.all(Placement)}
    vms = seen.vms.values()
    wanted = {Port.at(port.network, vm.id): (vm.name, hosts.get(vm.id), *addresses(port)) for vm in vms for port in vm.ports}
    found = {port.key: (port.name, port.host, *addresses(port)) for port in seen.all(Port)}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            yield f"{key} should be {wanted.get(key)} and is {found.get(key)}"


def ports_unlike(seen: Everything) -> Iterator[str]:
    """What its host was told, and what its guest has."""
    for manifest in seen.all(Manifest):
        vm = seen.vms.get(manifest.vm)
        if vm is None:
            continue
        told = [(port.network.id, port.allow, *addresses(port)) for port in manifest.ports]
        if told != [(port.network, port.allow, *addresses(port)) for port in vm.ports]:
            yield f"{vm.name} has the ports {vm.ports}, and {manifest.host} was told of {manifest.ports}"
        trace, macs = seen.hosts[manifest.host].get(vm.id), frozenset(port.mac for port in vm.ports)
        if trace and trace.guest and (trace.guest.macs, trace.guest.cut) != (macs, frozenset()):
            yield f"{vm.name} should have the interfaces {sorted(macs)}, and its guest is {trace.guest}"


def wiring_unlike(seen: Everything, host: str) -> Iterator[str]:
    """What the guests of this host need is there, as it should be, and nothing else."""
    vnis = {network.id: network.vni for network in seen.all(Network)}
    guests = [seen.vms[vm] for vm, trace in seen.hosts[host].items() if trace.guest and vm in seen.vms]
    here = {f"{vnis.get(port.network)}/{vm.id}": port for vm in guests for port in vm.ports}
    book = [port for port in seen.all(Port) if port.network in {own.network for own in here.values()}]
    names = {f"{vnis.get(port.network)}/{port.vm}" for port in book}
    claims = {f"{vnis.get(port.network)}/{eui64.link_local(port.mac)}" for port in book}
    for kind, name, things in seen.wired[host]:
        of_a_vm = names if kind is HostName else claims if kind is Taken else here.keys()
        wanted = of_a_vm if kind is Taken or "vm" in kind.__struct_fields__ else {key.partition("/")[0] for key in here}
        yield from (f"the {name} {key} is left over on {host}" for key in sorted(things.keys() - wanted))
        yield from (f"the {name} {key} is missing on {host}" for key in sorted(wanted - things.keys()))
        for key in sorted(wanted & things.keys()):
            thing = things[key]
            if thing is None:
                yield f"the {name} {key} on {host} is not as it should be"
            elif isinstance(thing, Plug | PortFilter) and [thing.mac, *thing.addresses] != addresses(here[key]):
                yield f"the {name} {key} on {host} has the addresses {thing.addresses} of {thing.mac}, not {here[key]}"
