"""What every daemon does at its start and at its end."""

import fcntl
import os
import resource
import signal
import socket
import threading
from pathlib import Path
from typing import TextIO

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.base.errors import Conflict, Invalid
from ucloud.store.etcd import EtcdStore

END_S = 10.0  # for an end in order; the supervisor would kill after 12 s


def stop_on_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT: the daemon then ends in order, or, if that takes longer than `END_S`, at once.

    Before this call they end it at once. The event is set by a thread, never by a handler: handlers wait for the main thread,
    which may hang, or sleep on where the kernel gave the signal to another thread, or hold in `stop.wait()` the very lock that
    `stop.set()` waits for. The kernel sees to the end at last (SIGALRM): an interpreter that is being torn down runs no
    thread any more.
    """
    stop = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # all is done by whoever reads the pipe

    def await_signal() -> None:
        os.read(reader, 1)
        signal.setitimer(signal.ITIMER_REAL, END_S)  # something may hang; to end as if killed is always safe
        stop.set()

    threading.Thread(target=await_signal, name="signals", daemon=True).start()
    return stop


def take_lock(state_dir: Path, kind: str) -> TextIO:
    """An open file that no second daemon of this kind can lock on the same host. Raises Conflict."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / f"{kind}.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"another {kind} daemon holds {file.name}") from None
    return file


def need_host_id(config: Config) -> str:
    """Raises Invalid where it is not known."""
    if not config.host.id:
        raise Invalid("[host] id: missing; it is the one that the API gave to this host")
    return config.host.id


def open_store(config: Config) -> EtcdStore:
    return EtcdStore(config.etcd.endpoints, SystemClock())


def process_name(kind: str) -> str:
    """Unique among all that may hold a lock at the same time."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}"


def raise_file_limit() -> None:
    """To what the system allows: a host daemon holds two open files for each guest."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
