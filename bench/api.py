"""Answers of the API over 20,000 VMs: `GET /v1/vms/<id>` under 5 ms at the median, `GET /v1/vms?limit=100` under 100 ms at the
99th percentile, with 8 clients and 3 etcd members with fsync.

The records stand in etcd as if the cloud had made them (see `bench.resync`). Each client is a process with one connection.
Lists are asked for without a pause, pages anywhere in the list. Single VMs are asked for 10 times a second by each client, as
by people and scripts that wait for something; without a pause the figure would be the throughput (`detail`), as all of it
shares a machine with its clients.
"""

import http.client
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from bench.cloud import wait_for
from bench.line import finish, rounded
from bench.processes import PlainCloud
from bench.resync import VMS, fill, vm

CLIENTS = 8
AIM_MS, LIST_AIM_MS = 5.0, 100.0
REQUESTS, LISTS = 200, 100  # of each client
PAUSE_S = 0.1

Choose = Callable[[random.Random], str]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ub-") as name:
        cloud = PlainCloud(Path(name), hosts=0)
        try:
            with cloud.store() as store:
                fill(store)
            cloud.add("api", 1)
            with cloud.client() as client:
                wait_for(client.is_ready, "the API", pause_s=0.2)
            with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as clients:
                answers = partial(all_ask, clients, int(cloud.urls[0].rpartition(":")[2]))
                answers(single, 5, 0)  # all of them have started and are connected once
                one_ms, busy_ms, list_ms = (
                    answers(single, REQUESTS, PAUSE_S),
                    answers(single, REQUESTS, 0),
                    answers(page, LISTS, 0),
                )
        finally:
            cloud.down()
    p99_ms = statistics.quantiles(list_ms, n=100)[98]
    ok = statistics.median(one_ms) < AIM_MS and p99_ms < LIST_AIM_MS
    detail = {
        "vms": VMS,
        "clients": CLIENTS,
        "one_p99_ms": rounded(statistics.quantiles(one_ms, n=100)[98]),
        "one_without_pause_ms": rounded(statistics.median(busy_ms)),
        "list_ms": rounded(statistics.median(list_ms)),
        "list_p99_ms": rounded(p99_ms),
        "list_aim_ms": LIST_AIM_MS,
    }
    finish("api", one_ms, "ms", ok, aim=AIM_MS, detail=detail)


def single(chance: random.Random) -> str:
    return f"/v1/vms/{vm(chance.randrange(VMS)).id}"


def page(chance: random.Random) -> str:
    return f"/v1/vms?limit=100&cursor={vm(chance.randrange(VMS - 200)).key}"


def all_ask(clients: ProcessPoolExecutor, port: int, path: Choose, times: int, pause_s: float) -> list[float]:
    asked = [clients.submit(ask, port, path, times, pause_s, number) for number in range(CLIENTS)]
    return [latency for each in asked for latency in each.result()]


def ask(port: int, path: Choose, times: int, pause_s: float, seed: int) -> Sequence[float]:
    """How long each answer took, in ms. Runs in a process of its own."""
    chance = random.Random(seed)
    connection = http.client.HTTPConnection("::1", port)
    latencies = []
    for _ in range(times):
        time.sleep(pause_s * chance.uniform(0.5, 1.5))
        began_s = time.perf_counter()
        connection.request("GET", path(chance))
        response = connection.getresponse()
        body = response.read()
        latencies.append((time.perf_counter() - began_s) * 1000)
        assert response.status == 200, body
    connection.close()
    return latencies


if __name__ == "__main__":
    main()
