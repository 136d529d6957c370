"""One host whose guests and pool pretend, driven by the production loop. For tests of that loop, step by step."""

from collections.abc import Callable

from tests.unit.world import FaultyStore, HandClock, manifest
from ucloud.base.config import DEFAULTS
from ucloud.daemon.network import fake_hands, host_network
from ucloud.driver.hypervisor.fake import FakeHypervisor
from ucloud.driver.hypervisor.fake import Machine as Guests
from ucloud.driver.pool.fake import FakePool
from ucloud.host.executor import Executor
from ucloud.host.loop import HostLoop
from ucloud.host.userdata import UserData
from ucloud.metadata import nocloud
from ucloud.model.guest import GuestSpec
from ucloud.model.host import Endpoint, Inventory, Reconciled
from ucloud.model.record import Record, decode, encode
from ucloud.model.secret import Secret
from ucloud.model.vm import Status
from ucloud.store.journal import KEPT_OF_HOST, Journal
from ucloud.store.memory import MemoryStore
from ucloud.store.view import View

VM = "vm-a"


class AtOnce:
    """An executor whose steps are done as soon as they are submitted."""

    def busy(self) -> frozenset[str]:
        return frozenset()

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        work()


class LawfulHypervisor(FakeHypervisor):
    """Insists that the store knows of a guest before it is started (DESIGN, law 3)."""

    def __init__(self, guests: Guests, store: MemoryStore) -> None:
        super().__init__(guests)
        self._store = store
        self.specs: dict[str, GuestSpec] = {}  # VM → its last guest

    def start(self, spec: GuestSpec) -> None:
        item = self._store.get(f"status/host-1/vm/{spec.vm}")
        assert item, f"{spec.vm} is started without a status"
        status, _ = decode(Status, item.value)
        assert (status.epoch, status.boots, status.phase) == (spec.epoch, spec.boots, "starting")
        super().start(spec)
        self.specs[spec.vm] = spec


class Machine:
    """One host, its pool and its store. `daemon` begins anew, as after kill -9. beats: how often it was heard. is_member:
    it was not removed."""

    def __init__(self, executor: Executor | None = None, has_lease: bool = True) -> None:
        self.has_lease, self.beats, self.boot, self.is_member = has_lease, 0, "boot-1", True
        self.clock = HandClock()
        self.executor = executor or AtOnce()
        self.store = FaultyStore(self.clock)
        self.guests: Guests = {}
        self.hands = fake_hands()
        self.pool = FakePool("local")
        self.pool.preload("image-1")
        self.daemon()

    def daemon(self) -> None:
        self.hypervisor = LawfulHypervisor(self.guests, self.store)
        view = View(self.store, ["manifest/host-1/", "status/host-1/", "fence/host-1"], self.clock, lambda: None)
        book = View(self.store, [], self.clock, lambda: None)
        self.journal = Journal(self.store, "host-1", self.clock, KEPT_OF_HOST)
        user_data = UserData(view)
        self.network = host_network("host-1", DEFAULTS.network, self.hands, user_data, book, self.clock, self.journal)
        inventory = Inventory(
            host="host-1", cpus=4, memory_mib=4096, hypervisor="fake", accel="fake", version="1", boot=self.boot
        )
        endpoint = Endpoint(host="host-1", url="http://[::1]:1", token=Secret("secret"))
        self.loop = HostLoop(
            self.store,
            view,
            self.hypervisor,
            lambda ref: self.pool,
            self.network,
            user_data,
            nocloud.files,
            self.executor,
            self.clock,
            inventory,
            endpoint,
            30.0,
            may_start=lambda: self.has_lease,
            beat=self._hear,
            is_member=lambda: self.is_member,
        )

    def _hear(self) -> None:
        self.beats += 1

    def tell(self, **told: object) -> None:
        self.put(manifest(VM, **told))

    def put(self, *records: Record) -> None:
        for record in records:
            self.store.commit({record.key: encode(record)})

    def settle(self, steps: int = 12) -> None:
        """Enough steps for everything that needs no time to pass."""
        for _ in range(steps):
            self.loop.step()

    def fail_to_start(self) -> None:
        """Four times, after which it waits for 8 s."""
        self.hypervisor.fail_next("start", 4)
        self.tell()
        for pause_s in (0.0, 1.0, 2.0, 4.0):
            self.clock.pass_s(pause_s)
            self.settle()

    @property
    def status(self) -> Status | None:
        item = self.store.get(f"status/host-1/vm/{VM}")
        return decode(Status, item.value)[0] if item else None

    @property
    def reconciled(self) -> Reconciled | None:
        item = self.store.get("status/host-1/reconciled")
        return decode(Reconciled, item.value)[0] if item else None

    @property
    def inventory(self) -> Inventory:
        item = self.store.get("status/host-1/inventory")
        assert item is not None
        return decode(Inventory, item.value)[0]

    def boots(self) -> list[str]:
        """The line that each guest wrote when it booted."""
        return self.hypervisor.log(VM).data.decode().splitlines()
