"""What a cloud costs while nothing happens: 10 VMs on one host. Aim: the host daemon has at most 60 MiB resident and uses at
most 1 % of a core, and nobody reads etcd: leases are renewed, watches are kept, nothing else.

Real daemons, real qemu guests (which only sleep). Reads are counted from etcd's own metrics, those of all daemons together.
Run by `script/bench idle`.
"""

import os
import statistics
import time
from pathlib import Path
from urllib.request import urlopen

from bench.boot_sector import DISK
from bench.cloud import Cloud, cloud, wait_for
from bench.line import finish, rounded
from ucloud.client import Client

VMS = 10
WINDOWS, WINDOW_S = 5, 20.0
AIM_MIB, AIM_PERCENT = 60.0, 1.0
READS = ("Range", "Txn", "Put", "DeleteRange", "Compact", "LeaseTimeToLive", "LeaseLeases")
COUNTED = (*READS, "LeaseKeepAlive", "Watch")


def main() -> None:
    with cloud() as running:
        with Client([running.url]) as client:  # while somebody is connected, the forwarder looks after the API
            create_vms(running, client)
        host = pid_of(running, "host-1")
        endpoint = running.status()["etcd"]["endpoints"][0]
        await_quiet(endpoint)
        resident_mib, percent, calls = [], [], []
        for _ in range(WINDOWS):
            before, cpu_s, start_s = counts(endpoint), cpu_seconds(host), time.monotonic()
            time.sleep(WINDOW_S)
            took_s = time.monotonic() - start_s
            percent.append(100 * (cpu_seconds(host) - cpu_s) / took_s)
            resident_mib.append(resident(host))
            calls.append({name: number - before[name] for name, number in counts(endpoint).items()})
        assert pid_of(running, "host-1") == host, "the daemon was restarted"
    reads = [sum(call[name] for name in READS) for call in calls]
    ok = statistics.median(resident_mib) <= AIM_MIB and statistics.median(percent) <= AIM_PERCENT and not any(reads)
    detail = {
        "vms": VMS,
        "window_s": WINDOW_S,
        "cpu_percent": [rounded(value) for value in percent],
        "aim_cpu_percent": AIM_PERCENT,
        "etcd_reads_and_writes": reads,
        "etcd_calls_in_one_window": {name: number for name, number in calls[-1].items() if number},
    }
    finish("idle", resident_mib, "MiB", ok, aim=AIM_MIB, detail=detail)


def create_vms(running: Cloud, client: Client) -> None:
    """All of them running."""
    image = running.directory / "sector.img"
    image.write_bytes(DISK)
    running.run("image", "upload", "sector", str(image))
    for number in range(VMS):
        client.create_vm(f"idle-{number}", "sector", memory_mib=16)
    wait_for(lambda: [vm["phase"] for vm in client.vms()] == ["running"] * VMS, f"{VMS} running VMs", pause_s=0.5)


def await_quiet(endpoint: str) -> None:
    """Creating is over when etcd was not written to for a while."""

    def quiet() -> bool:
        before = counts(endpoint)
        time.sleep(WINDOW_S / 2)
        return counts(endpoint)["Txn"] == before["Txn"]

    wait_for(quiet, "an etcd that nobody writes to")


def counts(endpoint: str) -> dict[str, int]:
    """How often etcd was called, by method; of streams, how many messages came."""
    found = dict.fromkeys(COUNTED, 0)
    with urlopen(f"{endpoint}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    for line in lines:
        for name in COUNTED:
            if line.startswith("grpc_server_msg_received_total{") and f'grpc_method="{name}"' in line:
                found[name] += int(float(line.rsplit(" ", 1)[1]))
    return found


def pid_of(running: Cloud, daemon: str) -> int:
    (pid,) = (told["pid"] for told in running.status()["daemons"] if told["name"] == daemon)
    return int(pid)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children that it has reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
