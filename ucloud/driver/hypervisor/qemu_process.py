"""Guests' processes: how one is launched, told from all others, and ended. Called by qemu.py and accel.py.

A guest is recognised by what the kernel says of a process: its working directory is the VM's run directory and its command
line names the VM. That holds from before qemu is executed until it has died, and needs no file that could be stale. A
process is held by pidfd, so its number may be reused without harm. It has a user and a control group of its own, and
survives the daemon.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ucloud.driver.hypervisor.qemu_command import Identity, identity
from ucloud.driver.process.held import Held
from ucloud.driver.process.linux import PROC, working_directory

KVM = Path("/dev/kvm")

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


class GuestProcess(Held):
    def __init__(self, who: Identity, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        super().__init__(pid, child)
        self.who = who


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
    """All guests whose run directories are in this one, whoever started them. A guest that broke out of qemu could claim any
    name, but cannot enter root's directories."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and working_directory(int(entry.name)).parent == run_directories:
            with contextlib.suppress(ProcessLookupError):
                pid = int(entry.name)
                who = _identity(entry)
                guest = GuestProcess(who, pid) if who else None
                # from now on the number cannot be another process'
                if guest and who == _identity(entry) and working_directory(pid) == run_directories / guest.who.vm:
                    yield guest


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
