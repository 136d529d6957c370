"""How long the router goes on knowing the way to a VM that is gone: after its route went from the host, as when it is stopped,
and after the host fell silent, as when it loses its power. Aims: 0.1 s, and the 2 s of BFD with half a second for the command.

Routes are added to the host by hand, as the overlay adds them for VMs. The host falls silent by
`ucloud lab cut`, whose own start is in the figure. Run by `script/bench withdraw`.
"""

import statistics
import subprocess
import time
from collections.abc import Callable

from bench.cloud import NAME, Cloud, cloud, wait_for
from bench.line import finish, rounded
from ucloud.daemon.cloud import find_cloud
from ucloud.driver.overlay.names import ROUTE_PUBLIC

ROUTES, LOSSES = 21, 5
AIM_MS, LOSS_S = 100.0, 2.5


def main() -> None:
    with cloud() as running:
        plan = find_cloud(NAME)
        assert plan
        vms = [str(address) for address, _ in zip(plan.public.hosts(), range(ROUTES), strict=False)]
        withdrawn_ms = [1000 * withdrawal(address) for address in vms]
        lost_s = [loss(running, vms[0]) for _ in range(LOSSES)]
    ok = statistics.median(withdrawn_ms) <= AIM_MS and statistics.median(lost_s) <= LOSS_S
    detail = {"lost_s": [rounded(value) for value in lost_s], "lost_aim_s": LOSS_S, "slowest_ms": rounded(max(withdrawn_ms))}
    finish("withdraw", withdrawn_ms, "ms", ok, aim=AIM_MS, detail=detail)


def withdrawal(address: str) -> float:
    announce(address)
    return until_gone(address, lambda: route("del", address))


def loss(running: Cloud, address: str) -> float:
    announce(address)
    wait_for(is_watched, "BFD to be up")
    try:
        return until_gone(address, lambda: running.run("lab", "cut", "h1", "--name", NAME))
    finally:
        running.run("lab", "heal", "h1", "--name", NAME)
        wait_for(lambda: knows(address), "the router to hear of it again")
        route("del", address)
        wait_for(lambda: not knows(address), "the router to forget it")


def announce(address: str) -> None:
    route("add", address)
    wait_for(lambda: knows(address), f"the router to know {address}")


def route(verb: str, address: str) -> None:
    words = ["ip", "-n", f"{NAME}-h1", "-6", "route", verb, f"{address}/128", "dev", "up0", "proto", str(ROUTE_PUBLIC)]
    subprocess.run(words, check=True)


def knows(address: str) -> bool:
    shown = subprocess.run(["ip", "-n", f"{NAME}-router", "-6", "route", "show", address], capture_output=True, check=True)
    return bool(shown.stdout)


def is_watched() -> bool:
    """BFD is up a second or two after BGP; until then silence is noticed by BGP's hold time."""
    plan = find_cloud(NAME)
    assert plan
    command = ["birdc", "-s", str(plan.router_file.with_suffix(".ctl")), "show bfd sessions"]
    return " Up " in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until_gone(address: str, act: Callable[[], object]) -> float:
    """Seconds from the beginning of `act`."""
    start_s = time.monotonic()
    act()
    wait_for(lambda: not knows(address), f"the router to forget {address}", pause_s=0.001)
    return time.monotonic() - start_s


if __name__ == "__main__":
    main()
