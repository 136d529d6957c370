"""A cloud of records: the API over the store in memory. Nothing acts by itself: a test plays scheduler, host and image loop
by writing what they would write."""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import httpx
import msgspec
from flask.testing import FlaskClient

from ucloud.api.app import create_app
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base import config
from ucloud.base.clock import SystemClock
from ucloud.base.errors import Invalid
from ucloud.driver.pool.contract import Progress
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Alive, Endpoint, Host, Inventory
from ucloud.model.image import Image, ImageState, Pool
from ucloud.model.keys import port_claims
from ucloud.model.network import ManifestPort, Network, NetworkRef, Port, VmPort
from ucloud.model.record import Record, decode, encode
from ucloud.model.secret import Secret
from ucloud.model.vm import Manifest, Phase, Placement, Status, Vm
from ucloud.store.memory import MemoryStore

NOW = "2026-11-22T14:51:31.042Z"
DATA = b"an image"
SHA256 = hashlib.sha256(DATA).hexdigest()
PUBLIC, UNDERLAY = "2001:db8::/48", "fd00:dead::/64"
NETWORK = config.Network(driver="fake", public=(PUBLIC,), underlay=(UNDERLAY,))


class FakePool:
    """Keeps uploads in memory; the part of the pool contract that the API uses."""

    def __init__(self) -> None:
        self.uploads: dict[str, bytes] = {}
        self.arrived: dict[str, bytes] = {}
        self.idle_s = 5

    def prepare(self) -> None:
        pass

    def free_bytes(self) -> int:
        return 1 << 30

    def progress(self, image: str) -> Progress:
        return Progress(received_bytes=len(self.arrived.get(image, b"")), idle_s=self.idle_s)

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str, start: int = 0) -> None:
        data = self.arrived[image] = self.arrived.get(image, b"")[:start] + b"".join(chunks)
        if len(data) != size:
            raise Invalid(f"{len(data)} bytes arrived, {size} were announced", {"bytes": "differs"})
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Invalid("the checksum differs", {"sha256": "differs"})
        self.uploads[image] = data

    def remove_image(self, image: str) -> None:
        self.uploads.pop(image, None)


class Cloud:
    def __init__(self, log: bytes = b"") -> None:
        """`log`: what hosts answer who are asked for a log."""
        clock = SystemClock()
        self.store = MemoryStore(clock)
        self.pool = FakePool()
        self.bugs: list[str] = []
        self.services = Services(
            store=self.store,
            view=SharedView(self.store, clock),
            pools=lambda pool: self.pool,  # type: ignore[arg-type, return-value]
            clock=clock,
            network=NETWORK,
            hosts=httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=log))),
        )
        self.app = create_app(self.services)
        self.http: FlaskClient = self.app.test_client()
        self.services.view.step()  # so that the first request need not wait for the thread
        self.services.view.start(on_bug=lambda: self.bugs.append("the view's loop"))

    def close(self) -> None:
        self.services.close()
        assert not self.bugs

    def put(self, *records: Record) -> int:
        return self.store.commit({record.key: encode(record) for record in records})

    def read(self, kind: type[Any], key: str) -> Any:
        item = self.store.get(key)
        return decode(kind, item.value)[0] if item else None

    def catch_up(self) -> None:
        """Until the view has seen all that was written."""
        self.services.view.step()

    def add_host(self, name: str = "h1", cpus: int = 4, memory_mib: int = 4096, alive: bool = True) -> str:
        id = f"host-01kam0000000000000000000{name[-2:].rjust(2, '0')}"
        host = Host(id=id, name=name, created=NOW)
        inventory = Inventory(host=id, cpus=cpus, memory_mib=memory_mib, hypervisor="fake", accel="tcg", version="0.1.0")
        endpoint = Endpoint(host=id, url="http://[::1]:9", token=Secret("t0ken"))
        name_key = Unique(path=f"unique/host/{name}", owner=id)
        self.put(host, inventory, endpoint, name_key, *([Alive(host=id, boot="b1")] if alive else []))
        self.catch_up()
        return id

    def add_image(self, name: str = "tiny", size_mib: int = 64) -> str:
        """By the API, and found harmless."""
        if self.store.get(Pool.at("default")) is None:
            self.put(Pool(name="default", path="/pool", created=NOW))
        made = self.ok("POST", "/v1/images", json={"name": name, "bytes": len(DATA), "sha256": SHA256}, status=201)["image"]
        self.ok("PUT", f"/v1/images/{made['id']}/data", data=DATA, status=202)
        self.examine(made["id"], size_mib)
        return str(made["id"])

    def examine(self, image: str, size_mib: int = 64, error: str = "") -> None:
        phase: Literal["failed", "ready"] = "failed" if error else "ready"
        self.put(ImageState(image=image, phase=phase, format="qcow2", virtual_size_mib=size_mib, error=error, since=NOW))
        self.catch_up()

    def add_vm(self, name: str = "web", **wishes: Any) -> tuple[str, str]:
        """(id, action): accepted, and no more."""
        answer = self.ok("POST", "/v1/vms", json={"name": name, "image": "tiny", **wishes}, status=202)
        return answer["vm"]["id"], answer["action"]["id"]

    def place(self, vm: str, host: str, epoch: int = 1, reason: str = "it had the most free memory") -> None:
        record = self.read(Vm, Vm.at(vm))
        self.put(
            Placement(vm=vm, host=host, epoch=epoch, since=NOW, reason=reason),
            Manifest(
                host=host,
                vm=vm,
                name=record.name,
                epoch=epoch,
                boots=record.boots,
                want="running" if record.power == "on" else "stopped",
                cpus=record.cpus,
                memory_mib=record.memory_mib,
                ports=tuple(map(self._told, record.ports)),
                revisions={"vm": self.revision(Vm.at(vm))},
            ),
            *(
                Port(network=p.network, vm=vm, name=record.name, mac=p.mac, ipv6=p.ipv6, ipv4=p.ipv4, host=host)
                for p in record.ports
            ),
        )
        self.catch_up()

    def _told(self, port: VmPort) -> ManifestPort:
        network = self.read(Network, Network.at(port.network))
        ref = NetworkRef(**{name: getattr(network, name) for name in NetworkRef.__struct_fields__})
        return ManifestPort(network=ref, mac=port.mac, ipv6=port.ipv6, ipv4=port.ipv4, allow=port.allow)

    def say(self, vm: str, host: str, phase: Phase, **changes: Any) -> None:
        """What the host says after it acted on the VM's record as it is now; the scheduler then releases what was detached."""
        record = self.read(Vm, Vm.at(vm))
        status = Status(
            host=host,
            vm=vm,
            epoch=1,
            boots=record.boots,
            phase=phase,
            since=NOW,
            revisions={"vm": self.revision(Vm.at(vm))},
        )
        self.put(msgspec.structs.replace(status, **changes))
        networks = {port.network for port in record.ports}
        book = (decode(Port, item.value)[0] for item in self.store.list(Port.prefix).items)
        for port in (port for port in book if port.vm == vm and port.network not in networks):
            self.store.commit({}, [port.key, *port_claims(vm, port)])
        self.catch_up()

    def run(self, vm: str, host: str) -> None:
        self.place(vm, host)
        self.say(vm, host, "running")

    def forget(self, vm: str) -> None:
        """What scheduler and host do together in the end."""
        record = self.read(Vm, Vm.at(vm))
        keys = [item.key for item in self.store.list("").items if vm in item.key and not item.key.startswith("idempotency/")]
        claims = {key for port in record.ports for key in port_claims(vm, port)}
        self.store.commit({}, {*keys, *claims, f"unique/vm/default/{record.name}"})
        self.catch_up()

    def forget_image(self, image: str) -> None:
        record = self.read(Image, Image.at(image))
        self.store.commit({}, [record.key, ImageState.at(image), f"unique/image/default/{record.name}"])
        self.catch_up()

    def revision(self, key: str) -> int:
        item = self.store.get(key)
        return item.mod_revision if item else 0

    def ok(self, method: str, path: str, status: int = 200, **arguments: Any) -> dict[str, Any]:
        response = self.http.open(path, method=method, **arguments)
        assert response.status_code == status, response.text
        assert response.headers["X-Request-Id"]
        body = response.get_json()
        assert isinstance(body, dict)
        return body

    def refused(self, status: int, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The `error` of a well-formed envelope."""
        response = self.http.open(path, method=method, **arguments)
        assert response.status_code == status, response.text
        body = response.get_json()
        assert set(body) == {"error", "request_id"}
        assert body["request_id"] == response.headers["X-Request-Id"]
        assert set(body["error"]) == {"code", "message", "details"}
        error = body["error"]
        assert isinstance(error, dict)
        return error
