"""What a network costs a host for router advertisements, DHCP and DNS: time to begin to serve, and memory. Aim: the fiftieth
begins within 250 ms. The host is a network namespace; every other network has an IPv4 range, so a process more.

Memory is each process' proportional share (PSS): what several have in common counts once. Run by `script/bench resolver`.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.line import finish, rounded
from tests.bridges import add_bridge
from tests.namespaces import Namespace
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.model.wiring import Service

NETWORKS, MEASURED = 50, 10  # the median of so many at the end is taken
AIM_MS = 250.0


def main() -> None:
    host, directory = Namespace(), Path(tempfile.mkdtemp(prefix="uct-"))
    services = DnsmasqResolver(directory, []).services
    try:
        with host:
            for number in range(1, NETWORKS + 1):
                add_bridge(service(number))
            took_ms = [milliseconds(partial(services.add, [service(number)])) for number in range(1, NETWORKS + 1)]
            look_ms = [milliseconds(services.actual) for _ in range(MEASURED)]
            assert all(services.actual().values())
            shares = sorted(share_kib(process.pid) for process in dnsmasq_process.find(directory.resolve() / "resolver"))
    finally:
        dnsmasq_process.end(list(dnsmasq_process.find(directory.resolve() / "resolver")))
        shutil.rmtree(directory)
        host.close()
    ours = took_ms[-MEASURED:]
    detail = {
        "networks": NETWORKS,
        "processes": len(shares),
        "first_ms": rounded(statistics.median(took_ms[:MEASURED])),
        "look_at_all_ms": rounded(statistics.median(look_ms)),
        "memory_kib_each": shares[len(shares) // 2],
        "memory_kib_all": sum(shares),
    }
    finish("resolver", ours, "ms", statistics.median(ours) <= AIM_MS, aim=AIM_MS, detail=detail)


def service(number: int) -> Service:
    return Service(
        vni=number,
        ipv6=f"fd00:{number:x}::/64",
        ipv4=f"10.{number}.0.0/24" if number % 2 else "",
        mtu=1430,
        slaac=False,
        routed=False,
        domain=f"n{number}.ucloud.internal",
    )


def milliseconds(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1000


def share_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
