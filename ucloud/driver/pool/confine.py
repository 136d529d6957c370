"""Run one command on one file that may have been made to harm its reader. Linux; called by the pool `directory`.

The command has a user of its own without privileges or groups, no network, and sees nothing but /usr (read-only), the file
and, if asked for, one file to write. It ends by itself when it uses too much, even if the caller has died. All mounts are
in a namespace that goes with it. Only util-linux and coreutils are needed.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line

UID = 64999  # nobody else's: not nobody, who owns other things too
FILE, OUTPUT = "/file", "/output"  # as the command sees them
CONFINED = b"confined\n"
KILLED = 128 + 9
PROCESSES = 256  # of that user, threads included, wherever they run
MOST_PRINTED, MOST_SAID = 1024 * 1024, 1000
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "MALLOC_ARENA_MAX": "1"}  # an arena each thread: 64 MiB

# The files are named relative to the working directory, which stays reachable behind the tmpfs even if it is below /tmp.
ENTER = """
set -e
mount -t tmpfs -o mode=0755,size=64k,nosuid,nodev,noexec none /tmp
mkdir /tmp/usr
ln -s usr/bin usr/sbin usr/lib usr/lib64 /tmp
mount --bind -o ro,nosuid,nodev /usr /tmp/usr
touch /tmp/file /tmp/output
mount -c --bind -o ro,nosuid,nodev,noexec "./$1" /tmp/file
[ -z "$2" ] || mount -c --bind -o rw,nosuid,nodev,noexec "./$2" /tmp/output
uid=$3; shift 3
mount -o remount,ro /tmp
cd /
exec chroot /tmp setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """write_mib: for the output file, and for what is printed."""

    cpu_s: int
    wall_s: int
    memory_mib: int
    write_mib: int


class Finished(msgspec.Struct, frozen=True):
    """killed: it used more than it was allowed to. message: what it said first on its standard error, in one line."""

    ok: bool
    killed: bool
    printed: bytes
    message: str


def run(command: Sequence[str], limits: Limits, directory: Path, file: str, output: str = "") -> Finished:
    """Run `command` on `file` in `directory`. Raises Temporary when it could not even begin."""
    mib = 1024 * 1024
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        code = subprocess.run(
            ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]
            + ["timeout", "-s", "KILL", str(limits.wall_s)]  # process 1 of the namespace: all others end with it
            + ["sh", "-c", ENTER, "sh", file, output, str(UID)]
            + ["prlimit", f"--cpu={limits.cpu_s}", f"--as={limits.memory_mib * mib}", f"--fsize={limits.write_mib * mib}"]
            + [f"--nproc={PROCESSES}"]
            + ["sh", "-c", 'echo confined; exec "$@"', "sh", *command],
            cwd=directory,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=said,
            start_new_session=True,
        ).returncode
        printed.seek(0)
        said.seek(0)
        began, text = printed.read(len(CONFINED)) == CONFINED, printed.read(MOST_PRINTED)
        message = one_line(said.read(MOST_PRINTED).decode(errors="replace"), MOST_SAID)
    if not began or code in (126, 127):
        raise Temporary(f"cannot confine {command[0]}: {message or f'exit code {code}'}", retry_s=10)
    return Finished(code == 0, code == KILLED, text, message)
