"""An API server with one VM, whose fake guest echoes, and its host's endpoint: a process of its own for tests of consoles.

Arguments: a unix socket to serve on. Commands come on stdin, a line each: `restart` boots the guest anew, `write TEXT`,
`delete` the VM, `forget` it on its host. After each one it says ok.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.unit.api.cloud import NOW, FakePool
from ucloud.api.server import serve
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.clock import SystemClock
from ucloud.client import Client
from ucloud.driver.hypervisor.contract import GuestSpec
from ucloud.driver.hypervisor.fake import FakeHypervisor
from ucloud.host.endpoint import Server
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Alive, Endpoint, Host, Secret
from ucloud.model.record import encode
from ucloud.model.vm import Placement, Status, Vm
from ucloud.store.memory import MemoryStore

VM, IDLE, HOST = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z", "vm-01kd2g5x8p6q0v3n9r7t4w1y30", "host-01kam000000000000000000001"


ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0


class World:
    def __init__(self) -> None:
        self.hypervisor = FakeHypervisor({})
        self.boots = 0
        self.restart()
        self.endpoint = Server("::1", "t0ken", self.hypervisor)
        threading.Thread(target=self.endpoint.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.store = MemoryStore(SystemClock())
        revision = self.store.commit({vm.key: encode(vm) for vm in (machine(VM, "web"), machine(IDLE, "idle"))})
        records = [
            *(Unique(path=f"unique/vm/default/{name}", owner=id) for id, name in ((VM, "web"), (IDLE, "idle"))),
            Host(id=HOST, name="h1", created=NOW),
            Alive(host=HOST, boot="b1"),
            Endpoint(host=HOST, url=self.endpoint.url, token=Secret("t0ken")),
            Placement(vm=VM, host=HOST, epoch=1, since=NOW, reason="it was free"),
            Status(host=HOST, vm=VM, epoch=1, boots=1, phase="running", since=NOW, revisions={"vm": revision}),
        ]
        self.store.commit({record.key: encode(record) for record in records})

    def restart(self) -> None:
        self.boots += 1
        self.hypervisor.kill(VM)
        self.hypervisor.start(GuestSpec(vm=VM, name="web", epoch=1, boots=self.boots, cpus=1, memory_mib=64))

    def write(self, text: str) -> None:
        self.hypervisor.write(VM, text.encode())

    def delete(self) -> None:
        self.store.commit({}, [Vm.at(VM), Placement.at(VM), "unique/vm/default/web"])

    def forget(self) -> None:
        self.hypervisor.kill(VM)
        self.hypervisor.forget(VM)

    def obey(self) -> None:
        for line in sys.stdin:
            verb, _, text = line.rstrip("\n").partition(" ")
            getattr(self, verb)(*([text] if text else []))
            print("ok", flush=True)

    def services(self) -> Services:
        threading.Thread(target=self.obey, daemon=True).start()
        clock = SystemClock()
        return Services(store=self.store, view=SharedView(self.store, clock), pools=lambda record: FakePool(), clock=clock)


def machine(id: str, name: str) -> Vm:
    return Vm(id=id, name=name, project="default", image="image-1", pool="p", cpus=1, memory_mib=64, disk_mib=64, created=NOW)


class Served:
    """Such a process, seen from the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        command = [sys.executable, "-m", "tests.unit.api.console_server", str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stdin=pipe, stdout=pipe, text=True)
        self.client = Client([f"unix:{path}"])
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://localhost", timeout=DEADLINE_S
        )
        wait_for(lambda: self.process.poll() is not None or self.client.is_ready(), "the server")

    def tell(self, command: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def close(self) -> None:
        self.client.close()
        self.http.close()
        self.process.kill()
        self.process.communicate()


def wait_for(condition: Callable[[], Any], what: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain for: {what}"
        time.sleep(0.02)


if __name__ == "__main__":
    serve(lambda: World().services(), unix=sys.argv[1])
