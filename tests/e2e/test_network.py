"""Networks of real guests on three hosts: who reaches whom, what is mended when somebody breaks it, and what is left."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv6Network
from typing import Any

import pytest

from tests.e2e.conftest import wait_for
from tests.e2e.shells import Shell
from tests.e2e.wide import Wide
from tests.leftovers import ucloud
from ucloud.client import Client
from ucloud.driver.link.linux import LinuxLinks
from ucloud.driver.overlay.names import BRIDGE, TAP, VXLAN

Vm = dict[str, Any]


@pytest.fixture(scope="module")
def api(wide_api: Client) -> Client:
    return wide_api


def is_up(api: Client, vm: str) -> bool:
    return b"press Enter" in api.vm_log(vm)[0]


def says(api: Client, vm: str, words: str) -> bool:
    return words in api.vm_log(vm)[0].decode(errors="replace")


def boot(api: Client, name: str, host: str, networks: list[str] | None = None) -> Vm:
    vm, _ = api.create_vm(name, "tiny", memory_mib=128, host=host, networks=networks)
    return vm


def delete(api: Client, vm: str) -> None:
    assert api.wait(api.delete_vm(vm), 300)["state"] == "success"


def does(api: Client, action: dict[str, Any]) -> None:
    done = api.wait(action, 300)
    assert done["state"] == "success", done


def answers(address: str) -> bool:
    """The machine's ping."""
    return subprocess.run(["ping", "-n", "-c", "1", "-W", "1", address], capture_output=True).returncode == 0


def port(api: Client, vm: str, network: str) -> dict[str, Any]:
    [found] = [port for port in api.vm(vm)["ports"] if port["network"] == network]
    return dict(found)


def first(address: str) -> str:
    """Of its network: the router's."""
    return str(IPv6Network(f"{address}/64", strict=False)[1])


def echos(counters: str, way: str) -> int:
    """Pings that came ("In") or left ("Out"), as /proc/net/snmp6 has it."""
    found = re.search(rf"Icmp6{way}Echos\s+(\d+)", counters)
    assert found, counters
    return int(found[1])


@pytest.fixture(scope="module")
def pair(api: Client) -> tuple[Vm, Vm]:
    """Two VMs of the default network, on different hosts."""
    a, b = boot(api, "a", "h1"), boot(api, "b", "h2")
    for vm in (a, b):
        wait_for(lambda vm=vm: is_up(api, vm["id"]), f"{vm['name']} to boot")
    return a, b


@pytest.fixture(scope="module")
def shell(api: Client, pair: tuple[Vm, Vm]) -> Iterator[Shell]:
    """Of a."""
    opened = Shell(api, pair[0]["id"])
    yield opened
    opened.close()


def test_vms_on_different_hosts_reach_each_other_and_the_machine(
    wide: Wide, api: Client, pair: tuple[Vm, Vm], shell: Shell
) -> None:
    a, b = pair
    for vm in pair:
        [address] = vm["addresses"]
        wait_for(lambda address=address: answers(address), f"{vm['name']} to answer the machine")
        wait_for(lambda vm=vm, address=address: says(api, vm["id"], f"eth0 {address}"), f"{vm['name']} to say its address")
    assert wide.routes_outside() == sorted(a["addresses"] + b["addresses"])
    status, said = shell.run(f"ping -6 -c 1 {b['addresses'][0]}")
    assert status == 0
    assert "ttl=64" in said, "no router is between them"
    assert shell.pings(str(wide.plan.link_subnet[2])), "the machine answers a guest"
    assert not shell.pings(str(wide.plan.address("h1"))), "the underlay does not"


def test_a_cloud_needs_no_ipv4_and_of_the_machine_one_link_and_one_route(wide: Wide, pair: tuple[Vm, Vm]) -> None:
    for where in (*wide.plan.hosts, "router", "underlay"):
        assert {line.split()[1] for line in wide.inside(where, "ip", "-4", "-o", "address").splitlines()} <= {"lo"}
    shown = subprocess.run(["ip", "-6", "-j", "route"], capture_output=True, text=True, check=True).stdout
    routes = [route for route in json.loads(shown) if route["dev"] == wide.plan.machine_link and "gateway" in route]
    assert [route["dst"] for route in routes] == [str(wide.plan.prefix)]
    assert [name for name in LinuxLinks().interfaces("") if name.startswith(wide.name)] == [wide.plan.machine_link]


def test_a_guest_that_lies_is_not_heard(wide: Wide, api: Client, pair: tuple[Vm, Vm], shell: Shell) -> None:
    """About its addresses or its MAC: neither by a VM on another host nor by the router, until it tells the truth."""
    a, b = (vm["addresses"][0] for vm in pair)
    outside = str(wide.plan.link_subnet[1])
    victim = Shell(api, pair[1]["id"])

    def sent() -> int:
        return echos(shell.run("cat /proc/net/snmp6")[1], "Out")

    def heard() -> tuple[int, int]:
        at_b, at_router = victim.run("cat /proc/net/snmp6")[1], wide.inside("router", "cat", "/proc/net/snmp6")
        return echos(at_b, "In"), echos(at_router, "In")

    try:
        before = heard()
        assert shell.pings(b)
        assert shell.pings(outside)
        assert heard() == (before[0] + 1, before[1] + 1)
        unused = str(IPv6Network(f"{a}/64", strict=False)[0x99])
        for lie, targets in ((b, [outside]), (first(a), [b, outside]), (unused, [b, outside]), ("fe80::1", [b])):
            before, left = heard(), sent()
            assert shell.run(f"ip address add {lie}/128 dev eth0")[0] == 0
            source = f"{lie}%eth0" if lie.startswith("fe80") else lie
            for target in targets:
                assert shell.run(f"ping -6 -c 1 -W 1 -I {source} {target}")[0] != 0
            assert (heard(), sent()) == (before, left + len(targets)), lie
            assert all(map(answers, (a, b))), "those to whom the addresses belong are heard"
            shell.run(f"ip address del {lie}/128 dev eth0")
        mac = shell.run("cat /sys/class/net/eth0/address")[1].strip()
        before = heard()
        assert shell.run("ip link set eth0 address 02:00:00:00:00:99")[0] == 0
        assert not any(map(shell.pings, (b, outside)))
        assert not answers(a)
        assert heard() == before
        assert "02:00:00:00:00:99" not in victim.run("ip -6 neigh")[1]
        shell.run(f"ip link set eth0 address {mac}")
        made = str(IPv6Network(f"{a}/64", strict=False)[0x0000_00FF_FE00_0099])
        shell.run(f"ip address del {made}/64 dev eth0")  # of the false MAC, if a router advertisement came meanwhile
        wait_for(lambda: answers(a), "the VM to answer the machine again")
        wait_for(lambda: shell.pings(b), "the VM to reach its neighbour again")
    finally:
        victim.close()


def test_a_private_network_is_reached_from_inside_alone(wide: Wide, api: Client, pair: tuple[Vm, Vm], shell: Shell) -> None:
    """By a VM that is on nothing else, and by one that is attached to it while it runs, until it is detached."""
    a = pair[0]["id"]
    api.create_network("inner", ipv4="10.9.0.0/24")
    does(api, api.attach_vm(a, "inner"))
    own = port(api, a, "inner")["ipv6"]
    wait_for(lambda: says(api, a, f"eth1 {own}"), "a to have its second address")
    wait_for(lambda: says(api, a, f"eth1 {port(api, a, 'inner')['ipv4']}"), "a to have an IPv4 address")
    shell.run("for word in 'interface eth1' 'start 10.9.0.200' 'end 10.9.0.210'; do echo $word; done >/tmp/rogue")
    shell.run("(udhcpd -f -a 1 /tmp/rogue >/tmp/said 2>&1 &)")
    c = boot(api, "c", "h3", ["inner"])
    other, ipv4 = (port(api, c["id"], "inner")[kind] for kind in ("ipv6", "ipv4"))
    wait_for(lambda: says(api, c["id"], f"eth0 {other}"), "c to have its address")
    wait_for(lambda: says(api, c["id"], f"eth0 {ipv4}"), "c to have the IPv4 address that its own host gives")
    wait_for(lambda: "OFFER" in shell.run("cat /tmp/said")[1], "a to hear that c asks, and to answer")
    shell.run("killall udhcpd")
    assert set(re.findall(rb"eth0 (10[0-9.]+)", api.vm_log(c["id"])[0])) == {ipv4.encode()}, "c did not hear a"
    wait_for(lambda: shell.pings(other), "c to answer a")
    assert shell.run(f"ping -c 1 {ipv4}")[0] == 0
    assert other in shell.run(f"nslookup c.inner.ucloud.internal {first(own)}")[1]
    assert shell.run("cat /sys/class/net/eth1/mtu")[1].strip() == "1430"
    assert answers(pair[0]["addresses"][0])
    for address in (own, other):
        assert not answers(address)
        assert address not in wide.routes_outside()
    does(api, api.detach_vm(a, "inner"))
    wait_for(lambda: shell.run("test -e /sys/class/net/eth1")[0] == 1, "a to have lost its interface")
    assert len([name for name in wide.interfaces("h1") if name.startswith((TAP, BRIDGE))]) == 2
    delete(api, c["id"])
    assert wide.traces("h3") == []
    api.delete_network("inner")


def kill(wide: Wide, program: str) -> None:
    for pid in wide.processes("h1", program):
        os.kill(pid, signal.SIGKILL)


def remove(wide: Wide, kind: str) -> None:
    wide.inside("h1", "ip", "link", "delete", wide.interface("h1", kind))


def flush(wide: Wide) -> None:
    wide.inside("h1", "nft", "flush", "ruleset")


@pytest.mark.parametrize(
    ("harm", "mended"),
    [
        pytest.param(lambda wide: kill(wide, "dnsmasq"), "resolver", id="dnsmasq"),
        pytest.param(lambda wide: kill(wide, "bird"), "routers", id="bird"),
        pytest.param(flush, "filter", id="nft"),
        pytest.param(lambda wide: remove(wide, VXLAN), "network", id="vxlan"),
        pytest.param(lambda wide: remove(wide, BRIDGE), "network", id="bridge"),
        pytest.param(lambda wide: remove(wide, TAP), "plug", id="tap"),
    ],
)
def test_what_somebody_breaks_is_mended_and_said(
    wide: Wide, api: Client, pair: tuple[Vm, Vm], shell: Shell, harm: Callable[[Wide], None], mended: str
) -> None:
    a, b = (vm["addresses"][0] for vm in pair)
    seen = {event["id"] for event in api.events()}
    harm(wide)

    def told() -> bool:
        return any(
            event["verb"] == "repaired" and mended in event["reason"] for event in api.events() if event["id"] not in seen
        )

    wait_for(told, "an event that tells of it")
    wait_for(lambda: answers(a), "the VM to answer the machine")
    wait_for(lambda: shell.pings(b), "the VM to reach its neighbour")
    assert wide.processes("h1", "dnsmasq")
    assert len(wide.processes("h1", "bird")) == 1


def test_a_stopped_vm_leaves_nothing_of_its_network(wide: Wide, api: Client, pair: tuple[Vm, Vm], shell: Shell) -> None:
    a, b = pair
    does(api, api.stop_vm(a["id"], force=True))
    assert wide.traces("h1") == []
    wait_for(lambda: wide.routes_outside() == b["addresses"], "the router to know only the other one")
    delete(api, a["id"])
    try:
        killed = ucloud("lab", "kill", "h2", "--name", wide.name)
        assert killed.returncode == 0, killed.stderr
        wait_for(lambda: wide.routes_outside() == [], "the router to forget what a host without power had")
    finally:
        booted = ucloud("lab", "boot", "h2", "--name", wide.name)
    assert booted.returncode == 0, booted.stderr
    wait_for(lambda: wide.routes_outside() == b["addresses"], "the router to know it again")
    delete(api, b["id"])
    assert wide.traces("h2") == []
    wait_for(lambda: wide.routes_outside() == [], "the router to know none")


def test_a_vm_without_options_is_reached_by_the_machine(wide: Wide, api: Client, pair: tuple[Vm, Vm]) -> None:
    done = ucloud("--api", wide.url, "vm", "create", "plain", "--image", "tiny")
    assert done.returncode == 0, done.stderr
    [address] = api.vm("plain")["addresses"]
    assert address in done.stdout
    wait_for(lambda: answers(address), "the VM to answer")
    delete(api, api.vm("plain")["id"])
