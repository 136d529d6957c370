"""What every daemon does at its start and at its end."""

import os
import resource
import signal
import socket
import threading
import time

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.store.etcd import EtcdStore

END_S = 10.0  # for an end in order; the supervisor would kill after 12 s


def stop_on_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT: the daemon then ends in order, or, if that takes longer than `END_S`, at once.

    By a thread: a handler interrupts the main thread wherever it is, and in the middle of `stop.wait()` it holds the very lock
    that `stop.set()` waits for.
    """
    stop = threading.Event()
    reader, writer = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writer, b"."))

    def await_signal() -> None:
        os.read(reader, 1)
        stop.set()
        time.sleep(END_S)
        os._exit(1)  # something hangs; to end as if killed is always safe

    threading.Thread(target=await_signal, name="signals", daemon=True).start()
    return stop


def open_store(config: Config) -> EtcdStore:
    return EtcdStore(config.etcd.endpoints, SystemClock())


def process_name(kind: str) -> str:
    """Unique among all that may hold a lock at the same time."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}"


def raise_file_limit() -> None:
    """To what the system allows: a host daemon holds two open files for each guest."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
