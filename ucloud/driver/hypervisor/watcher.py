"""One thread that sleeps until something happens at one of many descriptors. Called by qemu.py.

Guests exit (pidfd) and speak (QMP socket) when they like; waiting for them costs nothing while they don't.
"""

import os
import select
import threading
from collections.abc import Callable


class Watcher:
    """Calls are made from its own thread, one after the other; they must not block. A call may come once too often (when
    its descriptor was removed at that very moment)."""

    def __init__(self, name: str) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, descriptor: int, call: Callable[[], None]) -> None:
        self._calls[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._calls.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Harmless when repeated."""
        if self._epoll.closed:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._calls.clear()
        self._epoll.close()
        os.close(self._stop)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._stop:
                    return
                call = self._calls.get(descriptor)
                if call:
                    call()
