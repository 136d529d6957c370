"""A host with a VM on each of 100 networks: how long it takes to bring up one of the last ones, with its interfaces, rules,
router advertisements, DHCP and DNS, and its VM's port. Aim: half a second. In detail, against the first ones; the memory of all
processes (PSS); and a look at everything.

The host is a network namespace. Run by `script/bench networks`.
"""

import statistics

from bench.line import finish, rounded
from bench.resolver import share_kib
from bench.wired import add_ms, milliseconds, port, segment, service, wired_host
from ucloud.host.wiring import Wiring

NETWORKS, MEASURED = 100, 10  # the median of so many at the beginning and the end is taken
AIM_MS = 500.0


def main() -> None:
    with wired_host() as host:
        took_ms = [add_ms(host, f"{vni}", segment(vni), service(vni), *port(vni, vni)) for vni in range(1, NETWORKS + 1)]
        looks_ms = [milliseconds(lambda: look(host.wiring)) for _ in range(3)]
        shares = [share_kib(process.pid) for process in host.processes()]
    first, last = statistics.median(took_ms[:MEASURED]), statistics.median(took_ms[-MEASURED:])
    detail = {
        "networks": NETWORKS,
        "all_s": rounded(sum(took_ms) / 1000),
        "first_ms": rounded(first),
        "ratio": rounded(last / first),
        "look_at_all_ms": rounded(statistics.median(looks_ms)),
        "processes": len(shares),
        "memory_mib": rounded(sum(shares) / 1024),
    }
    finish("networks", took_ms[-MEASURED:], "ms", last <= AIM_MS, aim=AIM_MS, detail=detail)


def look(wiring: Wiring) -> None:
    """All of it is there."""
    done = wiring.mend()
    assert done == ([], []), done


if __name__ == "__main__":
    main()
