"""The network of a host's VMs: made before a guest starts, gone before its status, changed while it runs, mended."""

import msgspec

from tests.unit.machine import VM, Machine
from tests.unit.world import manifest
from ucloud.base.errors import Temporary
from ucloud.daemon.network import fake_hands, sets
from ucloud.host.loop import PERIOD_S
from ucloud.model.event import Event
from ucloud.model.network import ManifestPort, NetworkRef, Port
from ucloud.model.record import decode, encode
from ucloud.model.vm import Manifest
from ucloud.model.wiring import HostName, Plug, Taken

WEB = NetworkRef(id="network-web", name="web", public=True, vni=100, ipv6="fd00:100::/64", mtu=1430)
DB = NetworkRef(id="network-db", name="db", vni=200, ipv6="fd00:200::/64", ipv4="10.2.0.0/24", mtu=1430)
ON_WEB = ManifestPort(network=WEB, mac="02:00:00:00:01:0b", ipv6="fd00:100::ff:fe00:10b")
ON_DB = ManifestPort(network=DB, mac="02:00:00:00:02:0b", ipv6="fd00:200::ff:fe00:20b", ipv4="10.2.0.11")
MACS = {ON_WEB.mac, ON_DB.mac}


def told(*ports: ManifestPort, **more: object) -> Manifest:
    return msgspec.structs.replace(manifest(VM, **more), ports=ports)


def running(*ports: ManifestPort) -> Machine:
    machine = Machine()
    machine.put(told(*ports))
    machine.settle()
    assert machine.status
    assert machine.status.phase == "running"
    return machine


def keys(machine: Machine) -> dict[str, list[str]]:
    hands = machine.hands
    every = (hands.zones, hands.segments, hands.filters, hands.plugs, hands.services, hands.reservations)
    return {things.name: sorted(things.actual()) for things in every if things.actual()}


def test_all_that_its_ports_need_is_there_when_a_guest_starts() -> None:
    machine = running(ON_WEB, ON_DB)
    both = [f"100/{VM}", f"200/{VM}"]
    assert keys(machine) == {
        **{name: ["100", "200"] for name in ("zone", "network", "service")},
        **dict.fromkeys(("filter", "port", "reservation"), both),
    }
    nics = machine.hypervisor.specs[VM].nics
    assert [(nic.mac, nic.tap, nic.mtu) for nic in nics] == [
        (ON_WEB.mac, f"tap-100/{VM}", 1430),
        (ON_DB.mac, f"tap-200/{VM}", 1430),
    ]
    assert machine.hands.plugs.actual()[f"200/{VM}"] == Plug(
        vm=VM, vni=200, mac=ON_DB.mac, mtu=1430, addresses=(ON_DB.ipv6, ON_DB.ipv4), public=False
    )


def test_a_guest_is_not_started_without_its_filter() -> None:
    machine = Machine()
    machine.hands.filters.fail_next("add")
    machine.put(told(ON_WEB))
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("starting", "start: add of a filter failed")
    assert not machine.hands.plugs.actual()
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.status.phase == "running"


def test_rules_are_there_before_what_they_are_about() -> None:
    order = [one.driver.name for one in sets(fake_hands())]
    assert order.index("zone") < order.index("network") < order.index("filter") < order.index("port")


def test_what_cannot_be_mended_is_told_once() -> None:
    machine = running(ON_WEB)
    machine.network.step()
    machine.hands.filters.before = refuse_adding
    del machine.hands.filters.world[f"100/{VM}"]
    machine.clock.pass_s(PERIOD_S * 3)
    machine.network.step()
    machine.clock.pass_s(PERIOD_S)
    machine.network.step()
    machine.hands.filters.before = lambda call: None
    machine.clock.pass_s(PERIOD_S)
    machine.network.step()
    machine.clock.pass_s(PERIOD_S)
    machine.journal.step()
    events = [decode(Event, item.value)[0] for item in machine.store.list("event/host-1/").items]
    told = [(event.verb, event.reason) for event in events if event.verb in ("failed", "repaired")]
    assert told == [("failed", "filter of a on web: the kernel refuses")]


def refuse_adding(call: str) -> None:
    if call == "add":
        raise Temporary("the kernel refuses")


def test_nothing_is_left_when_the_status_goes() -> None:
    machine = running(ON_WEB)
    machine.put(told(ON_WEB, want="absent"))
    machine.hands.plugs.fail_next("remove")
    machine.settle()
    assert machine.status, "something is left"
    assert "remove of a port failed" in machine.status.error
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.status is None
    assert keys(machine) == {}


def test_a_port_comes_and_goes_while_the_guest_runs() -> None:
    machine = running(ON_WEB)
    machine.put(told(ON_WEB, ON_DB, revisions={"vm": 8}))
    machine.settle()
    assert machine.status
    assert machine.status.revisions == {"vm": 8}
    assert machine.hypervisor.actual()[VM].macs == MACS
    machine.put(told(ON_DB, revisions={"vm": 9}))
    machine.settle()
    assert machine.status.revisions == {"vm": 9}
    assert machine.hypervisor.actual()[VM].macs == {ON_DB.mac}
    assert keys(machine)["port"] == [f"200/{VM}"]
    assert len(machine.boots()) == 1


def test_a_guest_that_does_not_let_go_is_cut_off_all_the_same() -> None:
    machine = running(ON_WEB)
    machine.hypervisor.deaf.add(VM)
    machine.put(told(revisions={"vm": 8}))
    machine.settle()
    assert machine.status
    assert machine.status.error.startswith("wire: ")
    assert machine.status.revisions != {"vm": 8}, "it is not done"
    assert keys(machine) == {}
    machine.hypervisor.deaf.clear()
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert (machine.status.revisions, machine.status.error) == ({"vm": 8}, "")


def test_a_guest_that_kept_a_dead_interface_gets_a_live_one_when_its_port_comes_back() -> None:
    machine = running(ON_WEB)
    machine.hypervisor.deaf.add(VM)
    machine.put(told(revisions={"vm": 8}))
    machine.settle()
    assert machine.hypervisor.actual()[VM].cut == {ON_WEB.mac}
    machine.hypervisor.deaf.clear()
    machine.put(told(ON_WEB, revisions={"vm": 9}))
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.status
    assert machine.status.revisions == {"vm": 9}
    guest = machine.hypervisor.actual()[VM]
    assert (guest.macs, guest.cut) == ({ON_WEB.mac}, frozenset())


def test_a_port_that_cannot_be_removed_is_not_said_to_be_gone() -> None:
    machine = running(ON_WEB, ON_DB)
    machine.hands.plugs.before = refuse_removal
    machine.put(told(ON_WEB, revisions={"vm": 8}))
    for _ in range(3):
        machine.settle()
        machine.clock.pass_s(PERIOD_S)
        machine.network.step()
    assert machine.status
    assert (machine.status.revisions, machine.status.error) == ({}, "wire: it does not go")
    machine.hands.plugs.before = lambda call: None
    machine.clock.pass_s(60.0)
    machine.settle()
    assert machine.status.revisions == {"vm": 8}
    assert keys(machine)["port"] == [f"100/{VM}"]


def refuse_removal(call: str) -> None:
    if call == "remove":
        raise Temporary("it does not go")


def test_what_is_being_removed_neither_goes_early_nor_comes_back() -> None:
    """A look at everything may have begun before a worker removed it, and end later."""
    machine = running(ON_WEB)
    machine.network.keep({}, [VM])
    machine.network.step()
    assert keys(machine)["port"] == [f"100/{VM}"]
    machine.network.remove(VM)
    machine.network.keep({}, [VM])
    machine.clock.pass_s(PERIOD_S * 3)
    machine.network.step()
    assert keys(machine) == {}


def test_a_stopped_vm_has_nothing_and_gets_it_back() -> None:
    machine = running(ON_WEB)
    machine.put(told(ON_WEB, want="stopped", hard=True))
    machine.hands.plugs.fail_next("remove")
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("running", "unwire: remove of a port failed")
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.status.phase == "stopped"
    assert keys(machine) == {}
    machine.put(told(ON_WEB, boots=2))
    machine.settle()
    assert keys(machine)["port"] == [f"100/{VM}"]


def test_the_next_daemon_takes_it_over_and_mends_it() -> None:
    machine = running(ON_WEB)
    machine.daemon()
    machine.settle()
    machine.hands.plugs.damage(f"100/{VM}")
    machine.network.step()
    assert isinstance(machine.hands.plugs.actual()[f"100/{VM}"], Plug)


def test_nothing_is_removed_before_it_is_known_who_is_here() -> None:
    machine = running(ON_WEB)
    machine.daemon()
    machine.network.step()
    assert keys(machine)["port"] == [f"100/{VM}"]


def test_the_address_book_of_its_networks_is_followed() -> None:
    machine = running(ON_WEB)
    there = Port(network=WEB.id, vm="vm-b", name="b", mac="02:00:00:00:01:0c", ipv6="fd00:100::c", host="host-2")
    elsewhere = msgspec.structs.replace(there, network=DB.id)
    machine.put(there, elsewhere)
    machine.network.step()
    assert machine.hands.names.actual() == {"100/vm-b": HostName(vm="vm-b", vni=100, name="b", addresses=("fd00:100::c",))}
    address = "fe80::ff:fe00:10c"
    assert machine.hands.taken.actual() == {f"100/{address}": Taken(vni=100, address=address)}
    machine.store.commit({there.key: encode(msgspec.structs.replace(there, name="c"))})
    machine.network.step()
    assert [name.name for name in machine.hands.names.actual().values() if isinstance(name, HostName)] == ["c"]
    machine.put(told(ON_DB, revisions={"vm": 8}))
    machine.settle()
    machine.network.step()
    assert sorted(machine.hands.names.actual()) == ["200/vm-b"], "that of a network that is no longer here is nobody's business"
    machine.store.commit(deletes=[elsewhere.key])
    machine.network.step()
    assert not machine.hands.names.actual()
    assert not machine.hands.taken.actual()


def test_a_guest_whose_plug_was_pulled_gets_its_interface_anew() -> None:
    machine = running(ON_WEB)
    machine.network.step()
    del machine.hands.plugs.world[f"100/{VM}"]
    machine.clock.pass_s(PERIOD_S * 3)
    machine.network.step()
    machine.hypervisor.cut(VM, ON_WEB.mac)
    machine.settle()
    guest = machine.hypervisor.actual()[VM]
    assert (guest.macs, guest.cut) == ({ON_WEB.mac}, frozenset())
    assert list(machine.hands.plugs.actual()) == [f"100/{VM}"]


def test_a_host_that_cannot_be_made_ready_starts_nothing_that_has_ports() -> None:
    machine = Machine()
    machine.hands = machine.hands._replace(care=refuse)
    machine.daemon()
    machine.put(told(ON_WEB))
    machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("starting", "start: nft refuses the rules")


def refuse() -> list[str]:
    raise Temporary("nft refuses the rules")


def test_a_vm_whose_manifest_cannot_be_read_keeps_what_it_has() -> None:
    """Found by the simulator: its guest ran on without a network. Also where the daemon did not know it before."""
    machine = running(ON_WEB)
    before = keys(machine)
    machine.store.commit({f"manifest/host-1/{VM}": b"?"})
    for start in (lambda: None, machine.daemon):
        start()
        machine.clock.pass_s(PERIOD_S)
        machine.settle()
        assert keys(machine) == before


def test_an_answer_that_was_lost_is_no_error_any_more_once_the_port_is_there() -> None:
    """Found by the simulator: the status said for ever that the guest could not be wired."""
    machine = running(ON_WEB)
    machine.hypervisor.fail_next("attach", after=True)
    machine.put(told(ON_WEB, ON_DB))
    machine.settle()
    assert machine.hypervisor.actual()[VM].macs == MACS
    assert machine.status
    assert machine.status.error == ""


def test_what_failed_of_a_port_that_the_vm_has_lost_since_is_no_error_any_more() -> None:
    """Found by the simulator: the status of a stopped VM said for ever that its ports could not be removed."""
    machine = running(ON_WEB)
    machine.hands.services.fail_next("remove")  # type: ignore[attr-defined]
    machine.put(told(ON_WEB, want="stopped", hard=True))
    machine.settle()
    machine.put(told(want="stopped", hard=True))
    machine.hypervisor.power_off("vm-other")  # wakes the daemon, which looks at everything
    machine.settle()
    for _ in range(3):
        machine.clock.pass_s(PERIOD_S)
        machine.settle()
    assert machine.status
    assert (machine.status.phase, machine.status.error) == ("stopped", "")
