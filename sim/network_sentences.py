"""The sentences of stories that speak of networks; see `sim.sentences`."""

from sim.sentences import Director, sentence
from ucloud.driver.things import FakeThings
from ucloud.model.network import Network
from ucloud.model.record import decode


@sentence(r"a user makes the network (\w+)(?: with (\S+))?")
def make(director: Director, name: str, ipv4: str | None) -> None:
    wishes = {"name": name} | ({"ipv4": ipv4} if ipv4 else {})
    director.stage.names[director.api.ask("POST", "networks", json=wishes)["network"]["id"]] = name


@sentence(r"a user deletes the network (\w+)")
def delete(director: Director, name: str) -> None:
    director.api.ask("DELETE", f"networks/{name}")


@sentence(r"a user creates (\w+) with (\d+) MiB in the network (\w+)")
def create(director: Director, vm: str, memory_mib: str, network: str) -> None:
    wishes = {"name": vm, "image": "tiny", "memory_mib": int(memory_mib), "networks": [network]}
    director.api.ask("POST", "vms", json=wishes)


@sentence(r"a user (attaches|detaches) (\w+) (?:to|from) the network (\w+)")
def change(director: Director, verb: str, vm: str, network: str) -> None:
    path = f"vms/{director.stage.id_of(vm)}/actions/{verb.removesuffix('es')}"
    director.api.ask("POST", path, json={"network": network})


@sentence(r"a hand deletes the (bridge|services) of (\w+) on (h\d)")
def take_away(director: Director, what: str, network: str, host: str) -> None:
    hands = director.hosts[host].hands
    things = hands.segments if what == "bridge" else hands.services
    assert isinstance(things, FakeThings)
    record = next(item for item in director.stage.store.list(Network.prefix).items if network.encode() in item.value)
    del things.world[f"{decode(Network, record.value)[0].vni}"]


@sentence(r"the packet filter of (h\d) refuses the next port")
def refuse(director: Director, host: str) -> None:
    filters = director.hosts[host].hands.filters
    assert isinstance(filters, FakeThings)
    filters.fail_next("add")
