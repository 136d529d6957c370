"""From the first request to the last VM that runs: 2,000 VMs on 20 host daemons. Aim: 100 VMs a second, with at most 5 etcd
transactions for each.

Everything is a process of its own and real, over real HTTP and gRPC, but the guests: the hypervisor is the fake one, and disks
are empty files. 3 etcd members with fsync. `theirs`: how many VMs a second this etcd would take, at 2 transactions a VM and
from as many clients, if there were no cloud around it; measured before and after.
Run by `script/bench create`.
"""

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench.cloud import wait_for
from bench.line import finish, rounded
from bench.processes import IMAGE, PlainCloud, plain_cloud
from ucloud.store.etcd import EtcdStore

HOSTS, VMS, CLIENTS = 20, 2000, 8
AIM_PER_S, AIM_TRANSACTIONS = 100.0, 5.0
CALLS = ("Txn", "Range")
BARE_VMS = 1000
BARE_VALUE = bytes(400)


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ub-") as name,
        plain_cloud(Path(name), hosts=HOSTS) as cloud,
        cloud.store() as store,
    ):
        theirs = [bare_rate(store)]
        cpu_s, calls, own_s = cloud.cpu_s(), etcd_calls(cloud), time.process_time()
        took_s, requests_s = create(cloud, store)
        used_s = {kind: after_s - cpu_s[kind] for kind, after_s in cloud.cpu_s().items()}
        used_s["client"] = time.process_time() - own_s
        called = {name: (count - calls[name]) / VMS for name, count in etcd_calls(cloud).items()}
        theirs.append(bare_rate(store))
    rate = VMS / took_s
    detail = {
        "vms": VMS,
        "hosts": HOSTS,
        "clients": CLIENTS,
        "requests_per_s": rounded(VMS / requests_s),
        "transactions_per_vm": rounded(called["Txn"]),
        "aim_transactions_per_vm": AIM_TRANSACTIONS,
        "reads_per_vm": rounded(called["Range"]),
        "cpu_ms_per_vm": rounded(1000 * sum(used_s.values()) / VMS),
        "cpu_ms_per_vm_by_kind": {kind: rounded(1000 * value / VMS) for kind, value in used_s.items()},
        "theirs_per_s": [rounded(value) for value in theirs],
    }
    ok = rate >= AIM_PER_S and called["Txn"] <= AIM_TRANSACTIONS
    finish("create", [rate], "VMs/s", ok, aim=AIM_PER_S, theirs=theirs, detail=detail)


def create(cloud: PlainCloud, store: EtcdStore) -> tuple[float, float]:
    """Seconds from the first request to the last VM that runs, and to the last answer."""
    running = Running(store)
    numbers = iter(range(VMS))
    connections = threading.local()
    start_s = time.monotonic()

    def one(number: int) -> None:
        if not hasattr(connections, "api"):
            connections.api = http.client.HTTPConnection(urlsplit(cloud.urls[0]).netloc, timeout=60)
        body = json.dumps({"name": f"web-{number}", "image": IMAGE, "memory_mib": 128})
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"create-{number}"}
        connections.api.request("POST", "/v1/vms", body, headers)
        answer = connections.api.getresponse()
        said = answer.read()
        assert answer.status == 202, said

    in_parallel(one, numbers)
    requests_s = time.monotonic() - start_s
    wait_for(lambda: running.count() == VMS, f"{VMS} running VMs")
    took_s = running.last_s - start_s
    running.close()
    return took_s, requests_s


class Running:
    """Counts the VMs whose host said once that they run, without a look at the rest of the cloud."""

    def __init__(self, store: EtcdStore) -> None:
        self.last_s = 0.0
        self._seen: set[str] = set()
        self._arrived = threading.Event()
        self._watch = store.watch({"status/": store.list("status/", limit=1).revision}, self._note)

    def _note(self) -> None:
        self.last_s = time.monotonic() if len(self._seen) < VMS else self.last_s

    def count(self) -> int:
        for batch in self._watch.poll():
            for change in batch.changes:
                if change.item and b'"phase":"running"' in change.item.value:
                    self._seen.add(change.key)
        return len(self._seen)

    def close(self) -> None:
        self._watch.close()


def bare_rate(store: EtcdStore) -> float:
    """VMs a second that etcd alone takes: a record, and that it runs."""

    def one(number: int) -> None:
        for kind in ("record", "running"):
            store.commit({f"bench/{kind}/{number}": BARE_VALUE})

    start_s = time.monotonic()
    in_parallel(one, iter(range(BARE_VMS)))
    return BARE_VMS / (time.monotonic() - start_s)


def in_parallel(work: Callable[[int], None], numbers: Iterator[int]) -> None:
    """Raises what the first of the clients that failed raised."""
    lock = threading.Lock()
    errors: list[BaseException] = []

    def client() -> None:
        try:
            while not errors:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def etcd_calls(cloud: PlainCloud) -> dict[str, int]:
    """How often etcd was called, all members together, by method."""
    found = dict.fromkeys(CALLS, 0)
    for endpoint in cloud.etcd.endpoints:
        with urlopen(f"{endpoint}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        for line in lines:
            for name in CALLS:
                if line.startswith("grpc_server_handled_total{") and f'grpc_method="{name}"' in line:
                    found[name] += int(float(line.rsplit(" ", 1)[1]))
    return found


if __name__ == "__main__":
    main()
