"""VMs on networks: their addresses, the default network, attach and detach. How a host confirms it is played by writing what it
would write."""

import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import msgspec
import pytest

from tests.unit.api.cloud import NETWORK, NOW, Cloud
from ucloud.ipam import allocate
from ucloud.model import eui64
from ucloud.model.network import Network, Port
from ucloud.model.record import encode
from ucloud.model.vm import Placement, Vm


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    cloud.add_host()
    cloud.add_image()
    return cloud


def add_network(cloud: Cloud, name: str = "backend", **wishes: Any) -> str:
    made = cloud.ok("POST", "/v1/networks", status=201, json={"name": name, **wishes})["network"]
    cloud.catch_up()
    return str(made["id"])


def shown(cloud: Cloud, vm: str = "web") -> dict[str, Any]:
    return dict(cloud.ok("GET", f"/v1/vms/{vm}")["vm"])


def act(cloud: Cloud, verb: str, status: int = 202, vm: str = "web", **body: Any) -> dict[str, Any]:
    return cloud.ok("POST", f"/v1/vms/{vm}/actions/{verb}", status=status, json={"network": "backend"} | body)


def claims(cloud: Cloud, network: str) -> set[str]:
    prefixes = (f"use/network/{network}/", f"unique/address/{network}/")
    return {item.key.removeprefix(prefix) for prefix in prefixes for item in cloud.store.list(prefix).items}


def test_a_vm_without_a_wish_is_on_the_default_network(ready: Cloud) -> None:
    """Which is made with the first one, in one transaction, and used by the next."""
    first, _ = ready.add_vm("web")
    network = ready.ok("GET", "/v1/networks/default")["network"]
    assert network["public"]
    (port,) = shown(ready)["ports"]
    assert (port["network"], port["network_id"], port["ipv4"], port["allow"]) == ("default", network["id"], "", [])
    assert IPv6Address(port["ipv6"]) in IPv6Network(network["ipv6"])
    assert shown(ready)["addresses"] == [port["ipv6"]]
    assert port["ipv6"] == eui64.address(network["ipv6"], port["mac"])
    assert ready.revision(Network.at(network["id"])) == ready.revision(Vm.at(first))
    assert claims(ready, network["id"]) == {first, port["mac"]}
    ready.add_vm("db")
    assert shown(ready, "db")["ports"][0]["network_id"] == network["id"]
    assert shown(ready, "db")["addresses"] != shown(ready)["addresses"]


def test_first_ones_at_once_share_the_default_network(ready: Cloud) -> None:
    threads = [threading.Thread(target=ready.add_vm, args=(f"web-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ready.store.list("network/").items) == 1
    ports = [shown(ready, f"web-{number}")["ports"][0] for number in range(4)]
    assert len({port["network_id"] for port in ports}) == 1
    assert len({port["mac"] for port in ports}) == len({port["ipv6"] for port in ports}) == 4


def test_a_default_network_that_was_deleted_is_made_again(ready: Cloud) -> None:
    first = add_network(ready, "default", public=True)
    ready.ok("DELETE", "/v1/networks/default", status=202)
    ready.add_vm("web")  # the view may not have heard of it
    assert shown(ready)["ports"][0]["network_id"] != first


def test_without_a_public_prefix_there_is_no_default_network(ready: Cloud) -> None:
    object.__setattr__(ready.services, "network", msgspec.structs.replace(NETWORK, public=()))
    error = ready.refused(507, "POST", "/v1/vms", json={"name": "web", "image": "tiny"})
    assert "[network] public" in error["message"]
    assert ready.store.list("vm/").items == ()
    ready.add_vm("web", networks=[])
    assert (shown(ready)["addresses"], shown(ready)["ports"]) == ([], [])
    assert ready.store.list("network/").items == ()


def test_several_networks_in_the_order_that_was_asked_for(ready: Cloud) -> None:
    add_network(ready, "a", ipv4="10.1.0.0/29")
    b = add_network(ready, "b")
    ready.add_vm("web", networks=[b, "a"])
    second, first = shown(ready)["ports"]
    assert (second["network"], first["network"]) == ("b", "a")
    assert shown(ready)["addresses"] == [second["ipv6"], first["ipv6"], first["ipv4"]]
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "db", "image": "tiny", "networks": ["b", b]})
    assert error["details"] == {"networks": "one is named twice"}
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "db", "image": "tiny", "networks": ["nope"]})
    assert error["details"] == {"networks": "there is no network 'nope'"}


def test_a_creation_reads_nothing_and_commits_once(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it rests on is in the view, and the commit checks it."""
    ready.add_vm("first")
    ready.catch_up()
    calls: list[str] = []
    for name in ("get", "get_all", "list", "commit"):
        real = getattr(ready.store, name)
        monkeypatch.setattr(
            ready.store, name, lambda *a, _real=real, _name=name, **more: (calls.append(_name), _real(*a, **more))[1]
        )
    ready.ok("POST", "/v1/vms", status=202, json={"name": "web", "image": "tiny"}, headers={"Idempotency-Key": "k"})
    assert calls == ["commit", "get"]  # the record itself, to be shown


def test_ipv4_addresses_are_given_out_until_there_are_none(ready: Cloud) -> None:
    """Of a /29 the network's own, the router's and the broadcast address are nobody's."""
    add_network(ready, ipv4="10.1.0.0/29")
    for number in range(5):
        ready.add_vm(f"web-{number}", networks=["backend"])
    given = {shown(ready, f"web-{number}")["ports"][0]["ipv4"] for number in range(5)}
    assert given == {str(IPv4Address("10.1.0.2") + number) for number in range(5)}
    error = ready.refused(507, "POST", "/v1/vms", json={"name": "web-5", "image": "tiny", "networks": ["backend"]})
    assert "10.1.0.0/29" in error["message"]


def test_a_taken_mac_is_passed_over(ready: Cloud) -> None:
    network = add_network(ready)
    id, _ = ready.add_vm("web", networks=[])
    taken = allocate.mac(network, id)
    path = f"unique/address/{network}/{taken}"
    ready.store.commit({path: msgspec.json.encode({"path": path, "owner": "vm-other"})})
    act(ready, "attach")
    assert shown(ready)["ports"][0]["mac"] == allocate.mac(network, id, 1)


def test_attach_and_detach_change_record_and_claims_together(ready: Cloud) -> None:
    network = add_network(ready, ipv4="10.1.0.0/24")
    id, _ = ready.add_vm("web", networks=[])
    act(ready, "attach", allow=["ra", "dhcp"])
    (port,) = shown(ready)["ports"]
    assert port["allow"] == ["ra", "dhcp"]
    assert IPv4Address(port["ipv4"]) in IPv4Network("10.1.0.0/24")
    assert claims(ready, network) == {id, port["mac"], port["ipv4"]}
    revisions = {
        ready.revision(key) for key in (Vm.at(id), f"use/network/{network}/{id}", f"unique/address/{network}/{port['mac']}")
    }
    assert len(revisions) == 1
    act(ready, "detach")
    assert shown(ready)["ports"] == []
    assert claims(ready, network) == set(), "no host was told of it"


def test_claims_stay_while_a_host_may_have_the_port(ready: Cloud) -> None:
    network = add_network(ready)
    id, _ = ready.add_vm("web", networks=["backend"])
    host = ready.add_host()
    ready.place(id, host)
    before = claims(ready, network)
    act(ready, "detach")
    assert claims(ready, network) == before
    error = ready.refused(409, "POST", "/v1/vms/web/actions/attach", json={"network": "backend"})
    assert "try again" in error["message"]
    assert ready.refused(409, "DELETE", "/v1/networks/backend")["details"] == {"used_by": ["web (being detached)"]}
    assert ready.ok("GET", "/v1/networks/backend")["network"]["members"] == []
    ready.say(id, host, "running")
    act(ready, "attach")
    assert claims(ready, network) == before


def test_a_host_that_is_told_meanwhile_keeps_the_claims(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    network = add_network(ready)
    id, _ = ready.add_vm("web", networks=["backend"])
    host, before, commit, raced = ready.add_host(), claims(ready, network), ready.store.commit, list[bool]()

    def race(*arguments: Any, **more: Any) -> int:
        if not raced:
            raced.append(True)
            ready.place(id, host)
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    act(ready, "detach")
    assert claims(ready, network) == before


def test_a_vm_that_loses_its_dead_host_meanwhile_leaves_no_claims(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler, which found no other host with room, takes the entry away without writing the VM."""
    network = add_network(ready)
    id, _ = ready.add_vm("web", networks=["backend"])
    ready.place(id, ready.add_host())
    commit, raced = ready.store.commit, list[bool]()

    def race(*arguments: Any, **more: Any) -> int:
        if not raced:
            raced.append(True)
            commit(deletes=[Port.at(network, id)])
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    act(ready, "detach")
    assert claims(ready, network) == set()


def test_what_the_state_does_not_allow(ready: Cloud) -> None:
    add_network(ready)
    add_network(ready, "other")
    add_network(ready, "pub", public=True)
    ready.add_vm("web", networks=["backend"])
    attach, detach = "/v1/vms/web/actions/attach", "/v1/vms/web/actions/detach"
    assert "already" in ready.refused(409, "POST", attach, json={"network": "backend"})["message"]
    assert "not on" in ready.refused(409, "POST", detach, json={"network": "other"})["message"]
    assert list(ready.refused(422, "POST", attach, json={"network": "pub", "allow": ["ra"]})["details"]) == ["allow"]
    for body in ({"network": "nope"}, {"network": 7}, {}):
        assert list(ready.refused(422, "POST", attach, json=body)["details"]) == ["network"]
        assert list(ready.refused(422, "POST", detach, json=body)["details"]) == ["network"]
    for allow in ("ra", ["x"], ["ra", "ra"], [7], None):
        assert list(ready.refused(422, "POST", attach, json={"network": "other", "allow": allow})["details"]) == ["allow"]
    ready.refused(404, "POST", "/v1/vms/nope/actions/attach", json={"network": "other"})
    ready.ok("DELETE", "/v1/vms/web", status=202)
    ready.refused(409, "POST", attach, json={"network": "other"})
    ready.refused(409, "POST", detach, json={"network": "backend"})


def test_eight_networks_are_the_most(ready: Cloud) -> None:
    names = [add_network(ready, f"net{number}") for number in range(9)]
    ready.add_vm("web", networks=names[:8])
    assert len(encode(ready.read(Vm, Vm.at(shown(ready)["id"])))) < 2000
    error = ready.refused(409, "POST", "/v1/vms/web/actions/attach", json={"network": "net8"})
    assert "8 networks" in error["message"]
    error = ready.refused(422, "POST", "/v1/vms", json={"name": "db", "image": "tiny", "networks": names})
    assert "at most 8" in error["details"]["networks"]


@pytest.mark.parametrize("phase", ["running", "stopped", "off"])
def test_it_is_done_when_the_host_has_confirmed_it(ready: Cloud, phase: Any) -> None:
    host = ready.add_host()
    add_network(ready)
    id, _ = ready.add_vm("web", networks=[])
    if phase == "stopped":
        ready.ok("POST", "/v1/vms/web/actions/stop", status=202)
    ready.place(id, host)
    ready.say(id, host, phase)
    for verb in ("attach", "detach"):
        action = act(ready, verb)["action"]
        assert action["state"] == "running"
        ready.place(id, host)
        assert ready.ok("GET", f"/v1/actions/{action['id']}")["action"]["state"] == "running"
        ready.say(id, host, phase)
        done = ready.ok("GET", f"/v1/actions/{action['id']}")["action"]
        assert (done["state"], done["verb"]) == ("success", verb)


def test_a_running_vm_says_that_its_host_is_not_done(ready: Cloud) -> None:
    host = ready.add_host()
    add_network(ready)
    id, _ = ready.add_vm("web", networks=[])
    ready.run(id, host)
    action = act(ready, "attach")["action"]
    assert action["progress"] == "running: waiting for the scheduler to tell h1"
    vm = shown(ready)
    assert (vm["phase"], vm["waiting_for"]["what"], vm["waiting_for"]["who"]) == (
        "running",
        "the scheduler to tell h1",
        "scheduler",
    )


def test_a_network_that_the_scheduler_cannot_read_is_waited_for(ready: Cloud) -> None:
    host = ready.add_host()
    add_network(ready)
    id, _ = ready.add_vm("web", networks=[])
    ready.run(id, host)
    act(ready, "attach")
    placement: Placement = ready.read(Placement, Placement.at(id))
    ready.put(msgspec.structs.replace(placement, waits_for="there is no network/x", waits_since=NOW))
    assert shown(ready)["waiting_for"] == {"what": "its networks: there is no network/x", "who": "scheduler", "since": NOW}


def test_a_vm_without_a_host_is_attached_at_once(ready: Cloud) -> None:
    add_network(ready)
    ready.add_vm("web", networks=[])
    assert act(ready, "attach")["action"]["state"] == "success"
    assert act(ready, "detach")["action"]["state"] == "success"


def test_a_network_that_goes_meanwhile_is_not_attached(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    add_network(ready)
    ready.add_vm("web", networks=[])
    commit, gone = ready.store.commit, []

    def race(*arguments: Any, **more: Any) -> int:
        if not gone:
            gone.append(True)
            ready.ok("DELETE", "/v1/networks/backend", status=202)
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    error = ready.refused(422, "POST", "/v1/vms/web/actions/attach", json={"network": "backend"})
    assert list(error["details"]) == ["network"]
    assert shown(ready)["ports"] == []


def test_a_repeated_attach_is_done_once(ready: Cloud) -> None:
    add_network(ready)
    id, _ = ready.add_vm("web", networks=[])
    request = {"json": {"network": "backend"}, "headers": {"Idempotency-Key": "once"}}
    first = ready.ok("POST", f"/v1/vms/{id}/actions/attach", status=202, **request)
    assert ready.ok("POST", f"/v1/vms/{id}/actions/attach", status=202, **request) == first
    assert len(shown(ready)["ports"]) == 1


def test_networks_are_explained(ready: Cloud) -> None:
    add_network(ready)
    ready.add_vm("web", networks=["backend"])
    assert ready.ok("GET", "/v1/vms/web/explain")["wanted"]["networks"] == ["backend"]


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_repeated_request_is_answered_as_before_though_the_network_is_gone(ready: Cloud, verb: str) -> None:
    add_network(ready)
    ready.add_vm("web", networks=["backend"] if verb == "detach" else [])
    request = {"json": {"network": "backend"}, "headers": {"Idempotency-Key": "once"}}
    first = ready.ok("POST", f"/v1/vms/web/actions/{verb}", status=202, **request)
    if verb == "attach":
        act(ready, "detach")
    ready.ok("DELETE", "/v1/networks/backend", status=202)
    again = ready.ok("POST", f"/v1/vms/web/actions/{verb}", status=202, **request)
    assert again["action"]["id"] == first["action"]["id"]
