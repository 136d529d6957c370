"""What may happen to a cloud of plain processes, see bench/processes.py: they die, stand still, or are told to stop."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bench.processes import PlainCloud, Process, running
from tests.integration.clouds import Breakable, Fault, tracebacks
from ucloud.store.etcd import EtcdStore

ETCD = ("etcd-1", "etcd-2", "etcd-3")


@contextmanager
def breakable_plain(directory: Path) -> Iterator[Breakable[PlainCloud]]:
    cloud = PlainCloud(directory, hosts=3, apis=2, controls=2, fsync=False, log_level="info")
    with running(cloud), cloud.store() as store:
        yield breakable(cloud, store)


def breakable(cloud: PlainCloud, store: EtcdStore) -> Breakable[PlainCloud]:
    return Breakable(cloud, store, [*faults(cloud)], lambda: bugs(cloud))


def faults(cloud: PlainCloud) -> Iterator[Fault]:
    for name in (*cloud.daemons, *ETCD):
        own = frozenset({name})
        yield Fault("kill", name, partial(cloud.kill, name), partial(cloud.start, name), own)
        yield Fault("freeze", name, partial(cloud.freeze, name), partial(cloud.thaw, name), own)
    for name, process in cloud.daemons.items():
        yield Fault("stop", name, process.stop, process.start, frozenset({name}))
        yield Fault("kill the children of", name, partial(kill_children, process))


def kill_children(process: Process) -> None:
    """Of an API its worker; the others have none."""
    for pid in process.group():
        if pid != process.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def bugs(cloud: PlainCloud) -> list[str]:
    ended = [f"{name} ended with status {p.exit_status}" for name, p in cloud.daemons.items() if not p.runs]
    return ended + tracebacks({name: process.log for name, process in cloud.daemons.items()})
