"""What hosts are told of VMs' ports, who stands in the address book, and when an address is free again."""

import pytest

from tests.unit.world import NOW, NOW_S, World, host, network, pool, port, status, vm
from ucloud.loop import Decider
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import Decision, Unchanged
from ucloud.model.network import ManifestPort, NetworkRef, Port
from ucloud.model.vm import Manifest, Vm
from ucloud.scheduler.decide import decide

TOLD, ENTRY = "manifest/host-1/vm-a", "port/network-1/vm-a"


def settle(world: World) -> None:
    while decisions := decide(world.facts(), NOW_S):
        world.commit(decisions)


def claims(wanted: Vm) -> list[Unique]:
    return [Unique(path=path, owner=wanted.id) for port in wanted.ports for path in keys.port_claims(wanted.id, port)]


def placed(*records: object, **changes: object) -> World:
    """vm-a on host-1 and on network-1, and nothing left to decide."""
    wanted = vm(**{"ports": (port(),), **changes})
    world = World(pool(), *host("host-1"), network(), network("network-2"), wanted, *claims(wanted), *records)
    settle(world)
    return world


def revision(world: World, key: str) -> int:
    item = world.store.get(key)
    return item.mod_revision if item else 0


def only(world: World) -> Decision:
    (decision,) = decide(world.facts(), NOW_S)
    return decision


def told(world: World) -> Manifest:
    fact = world.facts().get(Manifest, TOLD)
    assert fact
    return fact.record


def confirm(world: World) -> None:
    """The host says that it did what it was told last."""
    manifest = told(world)
    world.put(status(epoch=manifest.epoch, boots=manifest.boots, revisions=manifest.revisions))


def names(world: World, *prefixes: str) -> list[str]:
    return [item.key for prefix in prefixes for item in world.store.list(prefix).items]


def test_who_is_placed_is_told_and_booked_in_one_decision() -> None:
    world = World(pool(), *host("host-1"), network(ipv4="10.1.0.0/24", slaac=True), vm(ports=(port(ipv4="10.1.0.7"),)))
    decision = only(world)
    _, manifest, entry = decision.puts
    mine = port()
    ref = NetworkRef(id="network-1", name="net-1", vni=1, ipv6="fd00:0:0:1::/64", ipv4="10.1.0.0/24", mtu=1430, slaac=True)
    assert manifest.ports == (ManifestPort(network=ref, mac=mine.mac, ipv6=mine.ipv6, ipv4="10.1.0.7"),)
    assert manifest.revisions == {key: revision(world, path) for key, path in MADE_FROM.items()}
    assert entry == Port(network="network-1", vm="vm-a", name="a", mac=mine.mac, ipv6=mine.ipv6, ipv4="10.1.0.7", host="host-1")
    assert {Unchanged(ENTRY, 0), Unchanged("network/network-1", revision(world, "network/network-1"))} <= set(decision.requires)


MADE_FROM = {"vm": "vm/vm-a", "pool": "pool/local", "network-1": "network/network-1"}


def test_what_a_port_may_do_that_others_may_not_is_told() -> None:
    assert told(placed(ports=(port(allow=("ra",)),))).ports[0].allow == ("ra",)


@pytest.mark.parametrize("is_spoiled", [False, True])
def test_a_vm_whose_network_nobody_knows_waits_and_says_so(is_spoiled: bool) -> None:
    world = World(pool(), *host("host-1"), vm(ports=(port(),)))
    if is_spoiled:
        world.store.commit({"network/network-1": b"?"})
    why = "the record network/network-1 cannot be read" if is_spoiled else "there is no network/network-1"
    assert (only(world).verb, only(world).reason) == ("wait", why)
    settle(world)
    world.put(network())
    assert only(world).verb == "place"


def test_a_network_with_another_name_is_told() -> None:
    world = placed()
    world.put(network(name="lan"))
    assert only(world).verb == "tell"
    settle(world)
    assert told(world).ports[0].network.name == "lan"


@pytest.mark.parametrize("is_spoiled", [False, True])
def test_what_a_host_was_told_of_a_network_holds_while_nobody_knows_it(is_spoiled: bool) -> None:
    world = placed()
    before = told(world)
    world.store.commit({"network/network-1": b"?"} if is_spoiled else {}, [] if is_spoiled else ["network/network-1"])
    assert decide(world.facts(), NOW_S) == []
    world.put(vm(ports=(port(),), power="off"))
    settle(world)
    assert (told(world).want, told(world).ports) == ("stopped", before.ports)
    assert told(world).revisions["network-1"] == before.revisions["network-1"]


def test_a_port_on_a_network_that_nobody_knows_is_waited_for() -> None:
    world = placed()
    world.delete("network/network-2")
    both = vm(ports=(port(), port("vm-a", "network-2")))
    world.put(both)
    assert decide(world.facts(), NOW_S) == [], "it may have been made with the VM, and not be seen yet"
    world.view.distrust()
    assert (only(world).verb, only(world).reason) == ("wait", "there is no network/network-2")
    settle(world)
    assert len(told(world).ports) == 1
    world.put(vm(ports=both.ports, deleted_at=NOW))
    settle(world)
    assert names(world, "vm/", "port/") == [], "and does not stand in the way of deleting the VM"


@pytest.mark.parametrize("change", [{"name": "b"}, {"ports": (port(ipv4="10.1.0.7"),)}])
def test_the_book_follows_the_vm(change: dict) -> None:
    world = placed()
    before = revision(world, ENTRY)
    world.put(vm(**{"ports": (port(),), **change}))
    decision = only(world)
    assert decision.verb == "tell"
    assert [record.key for record in decision.puts] == [TOLD, ENTRY]
    assert Unchanged(ENTRY, before) in decision.requires


def test_what_does_not_change_in_the_book_is_not_written() -> None:
    world = placed()
    world.put(vm(ports=(port(),), boots=2))
    assert [record.key for record in only(world).puts] == [TOLD]


def test_an_entry_that_somebody_removed_is_written_again() -> None:
    world = placed()
    world.delete(ENTRY)
    settle(world)
    assert names(world, "port/") == [ENTRY]


def test_nothing_is_decided_about_a_vm_whose_entry_cannot_be_read() -> None:
    world = placed()
    world.store.commit({ENTRY: b"?"})
    world.put(vm(ports=(), power="off"))
    assert decide(world.facts(), NOW_S) == []


def test_an_address_is_free_when_the_host_has_confirmed_that_the_port_is_gone() -> None:
    world = placed(status())
    confirm(world)
    world.put(vm())
    assert only(world).verb == "tell"
    settle(world)
    assert names(world, "port/", "use/") == [ENTRY, "use/network/network-1/vm-a"], "its host still has it"
    confirm(world)
    decision = only(world)
    assert (decision.verb, decision.key, decision.reason) == ("release", "vm/vm-a", "it has left the network net-1")
    assert decision.puts == ()
    assert set(decision.deletes) == {ENTRY, *keys.port_claims(vm().id, port())}
    facts = ("vm/vm-a", ENTRY, "placement/vm-a", TOLD, "status/host-1/vm/vm-a")
    assert set(decision.requires) == {Unchanged(key, revision(world, key)) for key in facts}
    settle(world)
    assert names(world, "port/", "use/", "unique/") == []


def test_a_host_that_never_began_need_not_confirm() -> None:
    world = placed()
    world.put(vm())
    settle(world)
    assert names(world, "port/", "use/", "unique/") == []


def test_a_detached_port_is_not_free_before_its_host_was_told() -> None:
    """The status echoes the manifest that still has it."""
    world = placed(status())
    confirm(world)
    world.put(vm(memory_mib=1 << 20))
    settle(world)
    assert told(world).ports, "it waits for room, and keeps what it has"
    assert names(world, "port/") == [ENTRY]


def test_without_a_host_nobody_has_it() -> None:
    world = World(pool(), network(), vm(ports=(port(),)), *claims(vm(ports=(port(),))))
    mine = port()
    world.put(Port(network="network-1", vm="vm-a", name="a", mac=mine.mac, ipv6=mine.ipv6, host="host-1"))
    world.put(vm())
    settle(world)
    assert names(world, "port/", "use/", "unique/") == []


def test_a_deleted_vm_leaves_nothing_of_its_ports() -> None:
    both = (port(ipv4="10.1.0.7"), port("vm-a", "network-2"))
    world = placed(status(), ports=both)
    world.put(vm(ports=both, deleted_at=NOW))
    settle(world)
    assert len(told(world).ports) == 2, "until the guest is gone, its host must know them"
    assert names(world, "port/") == [ENTRY, "port/network-2/vm-a"]
    world.delete("status/host-1/vm/vm-a")
    decision = only(world)
    assert decision.verb == "forget"
    assert Unchanged(ENTRY, revision(world, ENTRY)) in decision.requires
    settle(world)
    assert [item.key for item in world.store.list("").items if b"vm-a" in item.value + item.key.encode()] == []


def test_what_it_was_detached_from_is_released_before_it_is_forgotten() -> None:
    """However many networks those are: each has a transaction of its own size."""
    world = placed(status(), ports=(port(), port("vm-a", "network-2")))
    world.put(vm(ports=(port(),), deleted_at=NOW))
    settle(world)
    world.delete("status/host-1/vm/vm-a")
    assert [decision.verb for decision in decide(world.facts(), NOW_S)] == ["release"]
    settle(world)
    assert names(world, "vm/", "placement/", "manifest/", "port/", "use/", "unique/") == []


def test_a_vm_that_never_had_a_host_is_forgotten_with_what_its_ports_claimed() -> None:
    wanted = vm(ports=(port(),), deleted_at=NOW)
    world = World(pool(), wanted, *claims(wanted))
    assert Unchanged(ENTRY, 0) in only(world).requires
    settle(world)
    assert names(world, "") == ["pool/local"]


def test_vms_with_eight_ports_fit_into_transactions() -> None:
    """The store refuses what etcd would refuse."""
    networks = [network(f"network-{number}") for number in range(1, 9)]
    wanted = [vm(f"vm-{n:02}", ports=tuple(port(f"vm-{n:02}", of.id, ipv4="10.0.0.2") for of in networks)) for n in range(40)]
    world = World(pool(), *host("host-1", 1 << 20, 100), *networks, *wanted)
    loop = Decider("scheduler", world.store, world.view, decide, world.clock)
    loop.step()
    assert len(names(world, "port/")) == 320
    world.put(*(vm(one.id, ports=one.ports[:4], deleted_at=NOW) for one in wanted))
    for _ in ("told to go", "released", "forgotten"):
        loop.step()
    assert names(world, "vm/", "port/", "manifest/") == []
