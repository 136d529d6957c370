"""The deadman daemon: on every VM host, kills the guests that must not outlive the host's lease. No network, no store.

It and the lease daemon do the same killing, so that either may die, hang or be upgraded.
"""

import threading
from pathlib import Path

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers, platform
from ucloud.daemon.process import need_host_id, stop_on_signals, take_lock
from ucloud.host.deadman import Deadman
from ucloud.host.moment import Moment
from ucloud.loop import run_all

DEADLINE, BEAT = "lease", "beat"  # in the host's run_dir: until when it holds its lease; when its daemon looked last


def main(config: Config) -> None:
    """Run until SIGTERM. Raises Conflict when another one of this host is running, Invalid when it does not know its id."""
    need_host_id(config)
    lock = take_lock(Path(config.host.state_dir), "deadman")
    platform.processes().hurry()
    stop = stop_on_signals()
    try:
        run_all([(deadman(config), threading.Event())], stop)
    finally:
        lock.close()


def deadman(config: Config) -> Deadman:
    return Deadman(moment(config, DEADLINE), drivers.reaper(config), SystemClock())


def moment(config: Config, name: str) -> Moment:
    run_dir = Path(config.host.run_dir)
    return Moment(run_dir / name, drivers.machine.boot_id(run_dir))
