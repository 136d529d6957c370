"""Control groups of guests: ucloud/<host>/<vm>, so that together they weigh less than the daemons, and end together.

Called by qemu.py. Works with cgroup v2 and with v1's cpu hierarchy; where the system has neither, guests go on without (the
group of a VM is then None, and there is nothing to kill or to remove).
"""

import hashlib
import os
import signal
import time
from pathlib import Path

from ucloud.base.errors import Temporary
from ucloud.driver.process.held import held

ROOT = Path("/sys/fs/cgroup")
TOP = "ucloud"
LOW_WEIGHT_V2 = "20"  # of 100, for all guests together, against everything else at the same level
LOW_SHARES_V1 = "205"  # of 1024
KILL_S = 10.0


def _hierarchy(root: Path) -> tuple[Path, bool] | None:
    """(where the cpu controller is, whether it is v2)."""
    v2 = root / "cgroup.controllers"
    if v2.exists() and "cpu" in v2.read_text().split():
        return root, True
    if (root / "cpu" / "cgroup.procs").exists():
        return root / "cpu", False
    return None


def of_guests(run_dir: Path) -> "Groups":
    """Those of the host that has this directory."""
    return Groups(f"{run_dir.name}-{hashlib.sha256(os.fsencode(run_dir.resolve() / 'vm')).hexdigest()[:8]}")


class Groups:
    """The groups of one host's guests. `host` makes their parent's name unique on this kernel."""

    def __init__(self, host: str, root: Path = ROOT) -> None:
        self._host = host
        self._root: Path | None = None
        self._v2 = False
        if found := _hierarchy(root):
            self._root, self._v2 = found

    def add(self, vm: str) -> Path | None:
        """The VM's group, made if it is not there; a process joins by writing its number to `cgroup.procs` in it."""
        group = self._group(vm)
        for _ in range(5):
            try:
                if group:
                    self._make(group)
                return group
            except FileNotFoundError:  # the last guest of another host took the parents away meanwhile
                continue
            except OSError:  # not ours to write, as in some containers
                self.remove(vm)
                self._root = None
                break
        return None

    def guests(self) -> frozenset[str]:
        parent = self._group("")
        try:
            return frozenset(group.name for group in parent.iterdir() if group.is_dir()) if parent else frozenset()
        except FileNotFoundError:  # there are none, or the last one goes at this moment
            return frozenset()

    def kill(self, vm: str) -> None:
        """End every process of the VM's group and wait until none executes."""
        until_s = time.monotonic() + KILL_S
        group = self._group(vm)
        while group and (pids := _pids(group)):
            for pid in pids:
                _kill(group, pid, until_s)
            if time.monotonic() > until_s:
                raise Temporary(f"processes {pids} of {vm} do not die")

    def send_kill(self, vm: str) -> bool:
        """To every process of the VM's group, without waiting; whether there was any."""
        group = self._group(vm)
        if not group or not (pids := _pids(group)):
            return False
        for pid in pids:
            _kill(group, pid, until_s=0)
        return True

    def remove(self, vm: str) -> None:
        """The VM's group, and the parents with the last one."""
        group = self._group(vm)
        if not group or not self._root:
            return
        while group != self._root:
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return  # others are in it, or what was killed is not reaped yet: it stays a trace
            group = group.parent

    def _group(self, vm: str) -> Path | None:
        return self._root / TOP / self._host / vm if self._root else None

    def _make(self, group: Path) -> None:
        assert self._root
        top, parent = self._root / TOP, group.parent
        parent.mkdir(parents=True, exist_ok=True)
        if self._v2:
            for directory in (self._root, top, parent):
                (directory / "cgroup.subtree_control").write_text("+cpu")
            (top / "cpu.weight").write_text(LOW_WEIGHT_V2)
        else:
            (top / "cpu.shares").write_text(LOW_SHARES_V1)
        group.mkdir(exist_ok=True)


def _pids(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:  # no such group, or removed at this moment
        return []


def _kill(group: Path, pid: int, until_s: float) -> None:
    if process := held(pid, lambda pid: pid in _pids(group)):
        process.send(signal.SIGKILL)
        process.has_ended(max(0.0, until_s - time.monotonic()))
