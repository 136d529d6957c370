"""Guests' processes: how one is launched, told from all others, and ended. Called by qemu.py and accel.py.

A guest is recognised by what the kernel says of a process: its working directory is the VM's run directory and its command
line names the VM. That holds from before qemu is executed until it has died, and needs no file that could be stale. A
process is held by pidfd, so its number may be reused without harm. It has a user and a control group of its own, and
survives the daemon.
"""

import contextlib
import os
import select
import signal
import subprocess
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor.qemu_command import Identity, identity

KVM = Path("/dev/kvm")
KILL_S = 10.0

# sh joins the control group ($1, may be empty), unshare leaves the host's network (where a guest that broke out of qemu would
# find etcd), setpriv gives up everything else; then the process is qemu. When memory runs out, the kernel is to end guests
# before daemons and etcd.
ENTER = """
ulimit -c 0
echo 500 > /proc/self/oom_score_adj
[ -z "$1" ] || echo $$ > "$1/cgroup.procs" || exit 1
shift
exec unshare --net --ipc setpriv "$@"
"""


class GuestProcess:
    """child: only where this process started it."""

    def __init__(self, who: Identity, pid: int, pidfd: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.who = who
        self.pid = pid
        self.pidfd = pidfd
        self._child = child
        weakref.finalize(self, os.close, pidfd)

    def alive(self) -> bool:
        """False from the moment it has exited, reaped or not."""
        return not self._exited_within(0)

    def kill(self) -> None:
        """End it, and wait until nothing of it executes."""
        with contextlib.suppress(ProcessLookupError):  # it has exited and was reaped
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if not self._exited_within(KILL_S):
            raise Temporary(f"process {self.pid} of {self.who.vm} does not die")
        self.reap()

    def reap(self) -> None:
        """After it has exited. What another daemon started, its supervisor reaps."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        if self._child:
            self._child.poll()

    def _exited_within(self, wait_s: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))


def launch(
    command: Sequence[str], *, user: int, directory: Path, group: Path | None, inherited: Sequence[int], complaints: int
) -> subprocess.Popen[bytes]:
    """user: also its group; /dev/kvm's group is added where it has one of its own, as udev gives it."""
    privileges = [
        *(f"--reuid={user}", f"--regid={user}"),
        *(["--clear-groups"] if (kvm := _kvm_group()) is None else [f"--groups={kvm}"]),
        *("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    ]
    return subprocess.Popen(
        ["/bin/sh", "-c", ENTER, "sh", str(group or ""), *privileges, *command],
        cwd=directory,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=complaints,
        stderr=complaints,
        pass_fds=inherited,
        start_new_session=True,
    )


def find(run_directories: Path) -> Iterator[GuestProcess]:
    """All guests whose run directories are in this one, whoever started them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _directory(entry).parent == run_directories:
            guest = _open(int(entry.name), run_directories)
            if guest:
                yield guest


def _open(pid: int, run_directories: Path) -> GuestProcess | None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    process = Path("/proc") / str(pid)
    who = _identity(process)  # from now on the number cannot be another process'
    if who is None or _directory(process) != run_directories / who.vm:
        os.close(pidfd)
        return None
    return GuestProcess(who, pid, pidfd)


def _directory(process: Path) -> Path:
    """Its working directory. A guest that broke out of qemu could claim any name, but cannot enter root's directories."""
    try:
        return Path(os.readlink(process / "cwd"))
    except OSError:  # gone, a zombie, or a thread of the kernel
        return Path()


def _identity(process: Path) -> Identity | None:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return identity(words)
    except OSError:
        return None


def _kvm_group() -> int | None:
    try:
        return KVM.stat().st_gid or None
    except OSError:
        return None
