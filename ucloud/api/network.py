"""/v1/networks: made, listed, deleted. Nothing of a network exists outside of its records until a host has a VM on it."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from ucloud.api import action, ranges
from ucloud.api.action import ActionShown
from ucloud.api.describe import Gone, describe, either, tagged
from ucloud.api.fields import Id, Ipv4Range, Ipv6Subnet, Labels, Name, Timestamp
from ucloud.api.page import LabelledQuery, page
from ucloud.api.patch import heed_if_match
from ucloud.api.records import PROJECT, ShowSource, Source, Wish, commit, commit_new, find, found, fresh, get
from ucloud.api.services import services
from ucloud.api.uses import refuse_used, users
from ucloud.base.errors import Conflict, Invalid, NoCapacity, NotFound
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import NotNewer, absent, unchanged
from ucloud.model.network import Allowed, Network
from ucloud.model.record import Fact
from ucloud.model.vm import Vm
from ucloud.store.contract import MAX_OPERATIONS
from ucloud.store.view import View

routes = Blueprint("network", __name__)

DEFAULT = "default"  # the network of VMs that name none; made when the first of them is
SHOWN = 1000  # VMs in a network's members


class NetworkCreate(Struct, frozen=True):
    name: Name
    public: Annotated[bool, Meta(description="its VMs are reached from outside, by IPv6; else nothing leaves it")] = False
    ipv6: Annotated[Ipv6Subnet | UnsetType, Meta(description="by default a free one is chosen")] = UNSET
    ipv4: Annotated[Ipv4Range | UnsetType, Meta(description="of a private network; by default it has none")] = UNSET
    slaac: Annotated[bool | UnsetType, Meta(description="for guests without DHCPv6: they make the same address themselves")] = (
        UNSET
    )
    labels: Labels = {}


class NetworkShown(Struct, frozen=True, kw_only=True):
    """A network: VMs on it reach each other, on whichever host."""

    id: Id
    name: str
    project: str
    public: bool
    ipv6: str
    ipv4: Annotated[str, Meta(description="empty: none")]
    vni: Annotated[int, Meta(description="identifier of its VXLAN")]
    mtu: int
    slaac: bool
    labels: dict[str, str]
    created: Timestamp
    vms: Annotated[int, Meta(description="how many are on it")]


class Member(Struct, frozen=True, kw_only=True):
    """A VM on a network."""

    vm: Annotated[str, Meta(description="its name")]
    vm_id: Id
    mac: str
    ipv6: str
    ipv4: str
    allow: list[Allowed]


class NetworkDetail(NetworkShown, frozen=True, kw_only=True):
    """A network, and who is on it."""

    members: Annotated[list[Member], Meta(description=f"the {SHOWN} oldest")]


class NetworkAnswer(Struct, frozen=True):
    network: Annotated[Any, either("NetworkShown", "Gone")]


class NetworkDetailAnswer(Struct, frozen=True):
    network: NetworkDetail


class NetworkGone(Struct, frozen=True):
    network: Gone
    action: ActionShown


class NetworkPage(Struct, frozen=True):
    networks: list[NetworkShown]
    next_cursor: str | None


@routes.post("/v1/networks")
@describe("Create a network", body=NetworkCreate, answer=NetworkAnswer, status=201, errors=(Conflict, NoCapacity))
def create_network(body: NetworkCreate) -> NetworkAnswer:
    """507 when there is no prefix left for it."""

    def make(id: str, source: Source) -> Wish:
        if source.get(Unique, keys.unique("network", PROJECT, body.name)):
            raise Conflict(f"there is a network named {body.name} already", {"name": "taken"})
        wish = Wish()
        add(wish, id, body)
        return wish

    id = commit_new("create", "network", make).resource
    network = get(Network, Network.at(id))  # gone, perhaps, if the request is a repeated one
    return NetworkAnswer(show(network, 0) if network else Gone(id))


def add(wish: Wish, id: str, wanted: NetworkCreate) -> Network:
    """The record and its claims. Raises Invalid, NoCapacity."""
    settings, taken = services().network, ranges.claimed()
    if wanted.ipv6 is not UNSET:
        ipv6 = ranges.ipv6(wanted.ipv6, wanted.public, settings, taken)
    else:
        ipv6 = ranges.public(settings, taken) if wanted.public else ranges.private(id, settings, taken)
    ipv4 = ""
    if wanted.ipv4 is not UNSET:
        ipv4 = ranges.ipv4(wanted.ipv4, wanted.public, taken)
        wish.requires.append(NotNewer(ranges.RANGES, taken.revision))  # ranges of other lengths have other keys
    network = Network(
        id=id,
        name=wanted.name,
        project=PROJECT,
        public=wanted.public,
        vni=ranges.vni(id, settings, taken),
        ipv6=ipv6,
        ipv4=ipv4,
        mtu=settings.mtu,
        slaac=settings.slaac if wanted.slaac is UNSET else wanted.slaac,
        labels=wanted.labels,
        created=services().now(),
    )
    wish.put(network)
    wish.requires.append(absent(network.key))
    for path in claims(network):
        wish.claim(path, id)
    return network


def claims(network: Network) -> list[str]:
    return [
        keys.unique("network", network.project, network.name),
        f"{ranges.VNIS}{network.vni}",
        f"{ranges.SUBNETS}{network.ipv6.removesuffix('/64')}",
        *([f"{ranges.RANGES}{network.ipv4}"] if network.ipv4 else []),
    ]


def wanted(references: list[str] | UnsetType, vm: str, wish: Wish, source: Source) -> list[Network]:
    """Those that a new VM shall be on; UNSET: the default one. vm: its id. Raises Invalid, NoCapacity."""
    if references is UNSET:
        return [_default(vm, wish, source)]
    networks = [named(reference, "networks", source) for reference in references]
    if len({network.key for network in networks}) < len(networks):
        raise Invalid("networks: one is named twice", {"networks": "one is named twice"})
    wish.requires += map(unchanged, networks)
    return [network.record for network in networks]


def _default(vm: str, wish: Wish, source: Source) -> Network:
    """The project's network for VMs that name none; made by the wish, of the same moment and chance as the VM, if it is not
    there yet. Raises NoCapacity."""
    name = source.get(Unique, keys.unique("network", PROJECT, DEFAULT))
    network = source.get(Network, Network.at(name.record.owner)) if name else None
    if network:
        wish.requires.append(unchanged(network))
        return network.record
    return add(wish, f"network-{vm.partition('-')[2]}", NetworkCreate(DEFAULT, public=True))


def named(reference: str, field: str, source: Source) -> Fact[Network]:
    """The network that a request names in `field`. Raises Invalid."""
    try:
        return found(Network, "network", reference, PROJECT, source=source)
    except NotFound as error:
        raise Invalid(f"{field}: {error.message}", {field: error.message}) from None


@routes.get("/v1/networks")
@describe("List networks", query=LabelledQuery, answer=NetworkPage)
def list_networks(query: LabelledQuery) -> NetworkPage:
    with services().view.reading() as view:
        vms = vms_on(view)
        return NetworkPage(*page(Network, view.all(Network), lambda fact: show(fact, vms[fact.record.id]), query))


def vms_on(view: View) -> Counter[str]:
    """How many VMs each network has, by its id."""
    return Counter(port.network for fact in view.all(Vm).values() for port in fact.record.ports)


@routes.get("/v1/networks/<reference>")
@describe("Show a network", answer=NetworkDetailAnswer, tagged=True)
def get_network(reference: str) -> Response:
    network = found(Network, "network", reference, PROJECT)
    ids, more = users("network", network.record.id, SHOWN)
    members = list(_members(network.record.id, ids))
    vms = len(members)
    if more:
        with services().view.reading() as view:
            vms = vms_on(view)[network.record.id]
    return tagged(NetworkDetailAnswer(NetworkDetail(**_fields(network.record), vms=vms, members=members)), network)


def _members(network: str, vms: list[str]) -> Iterator[Member]:
    for start in range(0, len(vms), MAX_OPERATIONS):
        paths = [Vm.at(vm) for vm in vms[start : start + MAX_OPERATIONS]]
        source = ShowSource(*paths)
        for vm in (fact.record for path in paths if (fact := source.get(Vm, path))):
            for port in (port for port in vm.ports if port.network == network):
                yield Member(vm=vm.name, vm_id=vm.id, mac=port.mac, ipv6=port.ipv6, ipv4=port.ipv4, allow=list(port.allow))


@routes.delete("/v1/networks/<reference>")
@describe("Delete a network", answer=NetworkGone, status=202, if_match=True, errors=(Conflict,))
def delete_network(reference: str) -> NetworkGone:
    """Refused while VMs are on it."""
    id = find("network", reference, PROJECT)

    def make() -> Wish:
        network = found(Network, "network", id)
        heed_if_match(network)
        unused = refuse_used("network", id, network.record.name, lambda vm: _named_user(id, vm))
        return Wish(deletes=[network.key, *claims(network.record)], requires=[unchanged(network), unused])

    outcome = commit("delete", id, make)
    return NetworkGone(Gone(id), action.show(outcome, fresh()))


def _named_user(network: str, id: str) -> str:
    """A VM that still needs a network, and why if that is not plain to see."""
    vm = get(Vm, Vm.at(id))
    if vm is None:
        return id
    is_on = any(port.network == network for port in vm.record.ports)
    leaves = " (being deleted)" if vm.record.deleted_at else "" if is_on else " (being detached)"
    return f"{vm.record.name}{leaves}"


def show(fact: Fact[Network], vms: int) -> NetworkShown:
    return NetworkShown(**_fields(fact.record), vms=vms)


def _fields(network: Network) -> dict[str, Any]:
    """Those of the record are shown as they are."""
    return {name: getattr(network, name) for name in Network.__struct_fields__}
