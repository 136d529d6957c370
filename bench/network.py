"""What the packet filter costs: bytes a second between guests' ports on two hosts, over the VXLAN, with all filters against the
same path without. Aim: 0.95 of it. And in detail: what it takes to add a port to a host that has 999 against one that has 9.

Hosts are network namespaces. A guest is one too, cabled to its network's bridge by an interface with its tap's name, so that
the filter takes it for that; the filter holds the ports of a full host. Pairs are run in turn, each first every other time.
A port is its filter, its address's claim, its plug, what DHCP knows of it and its name, in networks of 100 ports. Run by
`script/bench network`.
"""

import json
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from bench.cloud import wait_for
from bench.line import finish, rounded
from bench.wired import MTU, UNDERLAY, add_ms, port, segment, service, wired_host
from tests.namespaces import Namespace, Underlay, ip, underlay
from ucloud.driver.overlay import names
from ucloud.driver.overlay.linux import LinuxOverlay
from ucloud.driver.packetfilter.nft import TABLES, NftPacketFilter
from ucloud.model.wiring import PortFilter, Taken

PAIRS, RUN_S = 7, 2
AIM = 0.95
FULL, FEW = 1000, 10  # ports on a host
AROUND = 5  # the median of so many before and after is taken
PORTS_PER_NETWORK = 100
RATIO, MOST_MS = 1.2, 50.0  # for a port


Measure = Callable[[str], float]  # between this guest and one at that address
Run = Callable[[Measure, bool], float]


def main() -> None:
    few_ms, full_ms = add_ports()
    with path() as run:
        ours, theirs = in_turn(run, gbit_s)
        small_ours, small_theirs = in_turn(run, small_packets_s)
    few, full = statistics.median(few_ms), statistics.median(full_ms)
    ok = statistics.median(ours) >= AIM * statistics.median(theirs) and full <= min(RATIO * few, MOST_MS)
    detail = {
        "ports": FULL,
        "add_tenth_ms": rounded(few),
        "add_thousandth_ms": rounded(full),
        "add_ratio": rounded(full / few),
        "add_aim": RATIO,
        "small_packets_s": rounded(statistics.median(small_ours)),
        "small_packets_ratio": rounded(statistics.median(small_ours) / statistics.median(small_theirs)),
        "ours_gbit_s": [rounded(value) for value in ours],
        "theirs_gbit_s": [rounded(value) for value in theirs],
    }
    finish("network", ours, "Gbit/s", ok, aim=AIM, theirs=theirs, detail=detail)


def in_turn(run: Run, measure: Measure) -> tuple[list[float], list[float]]:
    """With filters, and without."""
    results: dict[bool, list[float]] = {True: [], False: []}
    for number in range(PAIRS):
        for filtered in (True, False) if number % 2 else (False, True):
            results[filtered].append(run(measure, filtered))
    return results[True], results[False]


@contextmanager
def path() -> Iterator[Run]:
    """From a guest on one host to one on another. Yields what measures on it: with all filters, or without any."""
    with underlay(hosts=2) as wires, ExitStack() as stack:
        hosts = [Host(number, namespace) for number, namespace in enumerate(wires.hosts, 1)]
        client, server = (stack.enter_context(closing(host.guest())) for host in hosts)
        with server:
            serving = subprocess.Popen(["iperf3", "--server"], stdout=subprocess.DEVNULL)
        stack.callback(serving.wait)
        stack.callback(serving.kill)

        def run(measure: Measure, filtered: bool) -> float:
            for host in hosts:
                host.filter() if filtered else host.unfilter()
            with client:
                return measure(hosts[1].plug.addresses[0])

        with server:
            wait_for(is_serving, "iperf3")
        yield run


class Host:
    """With one guest."""

    def __init__(self, number: int, namespace: Namespace) -> None:
        self.namespace = namespace
        _, _, self.plug, *_ = port(number, 1)
        with namespace:
            overlay = LinuxOverlay("up0", Underlay.address(number))
            overlay.prepare()
            overlay.segments.add([segment(1)])

    def guest(self) -> Namespace:
        """It has its port's MAC and address."""
        inside, tap = Namespace(), names.tap(self.plug.vni, self.plug.vm)
        with self.namespace:
            ip(
                f"link add {tap} mtu {MTU} type veth peer name eth0 address {self.plug.mac} netns {inside.path}",
                f"link set {tap} master {names.bridge(self.plug.vni)} up",
            )
        with inside:
            ip(f"link set eth0 mtu {MTU} up", f"address add {self.plug.addresses[0]}/64 dev eth0 nodad")
        return inside

    def filter(self) -> None:
        with self.namespace:
            packet_filter = NftPacketFilter("up0", [UNDERLAY])
            packet_filter.prepare()
            packet_filter.zones.add([segment(1)])
            things = [thing for number in range(FULL) for thing in port(number, network_of(number))]
            packet_filter.filters.add([thing for thing in things if isinstance(thing, PortFilter)])
            packet_filter.taken.add([thing for thing in things if isinstance(thing, Taken)])

    def unfilter(self) -> None:
        with self.namespace:
            text = "".join(f"table {table}; delete table {table}\n" for table in TABLES)  # whether it is there or not
            subprocess.run(["nft", "--file", "-"], input=text, text=True, check=True)


def is_serving() -> bool:
    return subprocess.run(["ss", "-Hltn", "sport = :5201"], capture_output=True, check=True).stdout != b""


def gbit_s(address: str) -> float:
    """One connection, as its receiver counts."""
    bits: float = iperf3(address)["sum_received"]["bits_per_second"]
    return bits / 1e9


def small_packets_s(address: str) -> float:
    """As many as can be sent, of 64 bytes; those that arrive."""
    total = iperf3(address, "--udp", "--bitrate", "0", "--length", "64")["sum"]
    arrived: float = (total["packets"] - total["lost_packets"]) / total["seconds"]
    return arrived


def iperf3(address: str, *options: str) -> dict[str, Any]:
    command = ["iperf3", "--client", address, "--time", f"{RUN_S}", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    end: dict[str, Any] = json.loads(done.stdout)["end"]
    return end


def add_ports() -> tuple[list[float], list[float]]:
    """Milliseconds for each of the ports about the tenth, and about the thousandth."""
    with wired_host() as host:
        networks = range(1, FULL // PORTS_PER_NETWORK + 2)
        host.wiring.want("networks", [make(vni) for vni in networks for make in (segment, service)])
        took_ms = [add_ms(host, f"{number}", *port(number, network_of(number))) for number in range(1, FEW + AROUND + 1)]
        few_ms = took_ms[-2 * AROUND :]
        for number in range(FEW + AROUND + 1, FULL - AROUND):
            host.wiring.note(f"{number}", port(number, network_of(number)))
        host.wiring.mend()
        around = range(FULL - AROUND, FULL + AROUND)
        return few_ms, [add_ms(host, f"{number}", *port(number, network_of(number))) for number in around]


def network_of(number: int) -> int:
    return 1 + number // PORTS_PER_NETWORK


if __name__ == "__main__":
    main()
