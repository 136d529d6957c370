"""The host daemon: on every VM host, makes what really runs look like this host's manifests.

It may be killed and restarted at any moment; the guests go on and are found again.
"""

import secrets
import threading
from pathlib import Path

import ucloud
from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers
from ucloud.daemon.deadman import BEAT, DEADLINE, moment
from ucloud.daemon.network import host_network
from ucloud.daemon.process import need_host_id, open_store, raise_file_limit, stop_on_signals, take_lock
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.host.endpoint import Server
from ucloud.host.executor import Threads
from ucloud.host.loop import HostLoop
from ucloud.host.userdata import UserData
from ucloud.loop import run_all
from ucloud.metadata import nocloud
from ucloud.model import keys
from ucloud.model.host import Endpoint, Host, Inventory
from ucloud.model.secret import Secret
from ucloud.store.journal import KEPT_OF_HOST, Journal
from ucloud.store.view import View

WORKERS = 16  # steps of different VMs at the same time
SYSTEM_MEMORY_MIB = 1024  # not for guests: the system, etcd and the daemons


def main(config: Config) -> None:
    """Run until SIGTERM. Raises Conflict when another daemon of this host is running, Invalid when it does not know its id."""
    id = need_host_id(config)
    lock = take_lock(Path(config.host.state_dir), "host")
    raise_file_limit()
    stop = stop_on_signals()
    woken, network_woken, journal_woken = (threading.Event() for _ in range(3))
    clock, store = SystemClock(), open_store(config)
    hypervisor = drivers.hypervisor(config)
    hypervisor.subscribe(woken.set)
    token = secrets.token_urlsafe(24)
    server = Server(config.host.address, token, hypervisor)
    threading.Thread(target=server.serve_forever, name="endpoint", daemon=True).start()
    deadline, beat = moment(config, DEADLINE), moment(config, BEAT)
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
        may_start=lambda: (deadline.get() or 0.0) > clock.boot_s(),
        beat=lambda: beat.set(clock.boot_s()),
        is_member=lambda: store.get(Host.at(id)) is not None,
    )
    try:
        run_all([(loop, woken), (network, network_woken), (journal, journal_woken)], stop)
    finally:
        server.shutdown()
        hypervisor.close()
        store.close()
        lock.close()


def inventory(config: Config, hypervisor: Hypervisor) -> Inventory:
    return Inventory(
        host=config.host.id,
        cpus=config.host.cpus or drivers.machine.cpus(),
        memory_mib=config.host.memory_mib or max(0, drivers.machine.memory_mib() - SYSTEM_MEMORY_MIB),
        hypervisor=hypervisor.name,
        accel=hypervisor.accel,
        version=ucloud.__version__,
        boot=drivers.machine.boot_id(Path(config.host.run_dir)),
    )
