"""Who carries out the steps that the host's loop decides: threads in production, chance in the simulator."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Executor(Protocol):
    """Runs steps, several at once, never two of one VM. The simulator has its own, with an order by chance."""

    def busy(self) -> frozenset[str]: ...

    def submit(self, vm: str, work: Callable[[], None]) -> None: ...


class Threads:
    """An executor with `workers` threads; `wake` is called after every step. A bug in a step is raised by `busy`."""

    def __init__(self, workers: int, wake: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="step")
        self._wake = wake
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._bug: BaseException | None = None

    def busy(self) -> frozenset[str]:
        if self._bug:
            raise self._bug
        with self._lock:
            return frozenset(self._busy)

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        with self._lock:
            self._busy.add(vm)
        self._pool.submit(self._run, vm, work)

    def _run(self, vm: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as bug:
            self._bug = bug
        with self._lock:
            self._busy.discard(vm)
        self._wake()
