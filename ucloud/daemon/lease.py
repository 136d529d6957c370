"""The lease daemon: on every VM host, says that the host is alive, and kills with `deadman` the guests that must not outlive
that.

The host daemon is not in this chain: it may crash, hang or be upgraded for minutes, and no guest dies of it.
"""

import threading
from pathlib import Path

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers, platform
from ucloud.daemon.deadman import BEAT, DEADLINE, deadman, moment
from ucloud.daemon.process import need_host_id, stop_on_signals, take_lock
from ucloud.host.lease import Lease, timing
from ucloud.loop import run_all
from ucloud.model.host import Alive
from ucloud.store.etcd import EtcdStore
from ucloud.store.lease import LeasedKey


def main(config: Config) -> None:
    """Run until SIGTERM. Raises Conflict when another one of this host is running, Invalid when it does not know its id, or
    when the lease is too short for etcd."""
    id = need_host_id(config)
    times = timing(config.host.ttl_s, config.etcd.election_ms / 1000)
    lock = take_lock(Path(config.host.state_dir), "lease")
    platform.processes().hurry()
    stop, clock = stop_on_signals(), SystemClock()
    endpoints = config.etcd.endpoints
    store = EtcdStore(endpoints, clock, timeout_s=times.attempt_s * len(endpoints))  # each member in turn
    alive = Alive(host=id, boot=drivers.machine.boot_id(Path(config.host.run_dir)))
    leased = LeasedKey(store, alive, config.host.ttl_s, clock, times.renew_s)
    lease = Lease(leased, moment(config, DEADLINE), moment(config, BEAT), clock, times)
    try:
        run_all([(lease, threading.Event()), (deadman(config), threading.Event())], stop)
    finally:
        store.close()
        lock.close()
