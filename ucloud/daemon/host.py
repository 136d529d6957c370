"""The host daemon: on every VM host, makes what really runs look like this host's manifests.

It may be killed and restarted at any moment; the guests go on and are found again.
"""

import fcntl
import secrets
import threading
from pathlib import Path
from typing import TextIO

import ucloud
from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.base.errors import Conflict, Invalid
from ucloud.daemon import drivers
from ucloud.daemon.network import host_network
from ucloud.daemon.process import open_store, raise_file_limit, stop_on_signals
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.host.endpoint import Server
from ucloud.host.executor import Threads
from ucloud.host.heartbeat import Heartbeat
from ucloud.host.loop import HostLoop
from ucloud.host.userdata import UserData
from ucloud.loop import run_all
from ucloud.metadata import nocloud
from ucloud.model import keys
from ucloud.model.host import Alive, Endpoint, Inventory
from ucloud.model.secret import Secret
from ucloud.store.journal import KEPT_OF_HOST, Journal
from ucloud.store.lease import LeasedKey
from ucloud.store.view import View

WORKERS = 16  # steps of different VMs at the same time
SYSTEM_MEMORY_MIB = 1024  # not for guests: the system, etcd and the daemons


def main(config: Config) -> None:
    """Run until SIGTERM. Raises Conflict when another daemon of this host is running, Invalid when it does not know its id."""
    if not config.host.id:
        raise Invalid("[host] id: missing; it is the one that the API gave to this host")
    lock = take_lock(Path(config.host.state_dir))
    raise_file_limit()
    stop = stop_on_signals()
    woken, network_woken, beat_woken, journal_woken = (threading.Event() for _ in range(4))
    clock, store = SystemClock(), open_store(config)
    hypervisor = drivers.hypervisor(config)
    hypervisor.subscribe(woken.set)
    token = secrets.token_urlsafe(24)
    server = Server(config.host.address, token, hypervisor)
    threading.Thread(target=server.serve_forever, name="endpoint", daemon=True).start()
    id = config.host.id
    journal = Journal(store, id, clock, KEPT_OF_HOST, journal_woken.set)
    view = View(store, [keys.manifests(id), keys.statuses(id), keys.fence(id)], clock, woken.set)
    book = View(store, [], clock, network_woken.set)
    user_data = UserData(view)
    network = host_network(id, config.network, drivers.network(config), user_data, book, clock, journal)
    loop = HostLoop(
        store,
        view,
        hypervisor,
        drivers.pool,
        network,
        user_data,
        nocloud.files,
        Threads(WORKERS, woken.set),
        clock,
        inventory(config, hypervisor),
        Endpoint(host=id, url=server.url, token=Secret(token)),
        config.host.power_down_s,
        journal,
    )
    leased = LeasedKey(store, Alive(host=id, boot=drivers.machine.boot_id()), config.host.ttl_s, clock)
    beat = Heartbeat(leased, leased.renew_s)
    try:
        run_all([(loop, woken), (network, network_woken), (beat, beat_woken), (journal, journal_woken)], stop)
    finally:
        server.shutdown()
        hypervisor.close()
        store.close()
        lock.close()


def take_lock(state_dir: Path) -> TextIO:
    """An open file that no second daemon of this host can lock."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / "daemon.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"another host daemon holds {file.name}") from None
    return file


def inventory(config: Config, hypervisor: Hypervisor) -> Inventory:
    return Inventory(
        host=config.host.id,
        cpus=config.host.cpus or drivers.machine.cpus(),
        memory_mib=config.host.memory_mib or max(0, drivers.machine.memory_mib() - SYSTEM_MEMORY_MIB),
        hypervisor=hypervisor.name,
        accel=hypervisor.accel,
        version=ucloud.__version__,
        boot=drivers.machine.boot_id(),
    )
