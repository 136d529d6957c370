"""Processes of dnsmasq: how one is launched, told from all others, and ended. Called by dnsmasq.py.

It outlives the daemon. It is recognised by what the kernel says of a process: its user, its command, and what it was launched
with (`Launch`, in its environment), so that what runs can be compared with what should run. It sees no file but programs and
libraries, its network's guests and names, and its log; it keeps the few capabilities without which it does not start.
"""

import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line
from ucloud.driver.process.held import Held, held
from ucloud.driver.process.linux import PROC, command_of, parent_of
from ucloud.driver.resolver.dnsmasq_command import GUESTS, LOG, NAMES, Program, uid
from ucloud.model.wiring import Service

DIRECTORY, LAUNCH = "UCLOUD_DIRECTORY", "UCLOUD_LAUNCH"  # in its environment
LOG_BYTES = 1 << 20  # it cannot write more, whatever its guests make it complain of; it goes on without
START_S = 30.0

# It gets a root directory of its own. The machine's is let go, so that nothing that the machine unmounts later is held;
# mount(8) needs its /proc until then. SIGXFSZ is ignored: a full log is no reason to die.
ENTER = f"""
set -e
umask 022
trap '' XFSZ
cd "$1"
mount -t tmpfs -o mode=0755,size=64k,nosuid,nodev none /tmp
mkdir /tmp/usr /tmp/dev /tmp/tmp /tmp/{GUESTS} /tmp/{NAMES}
touch /tmp/dev/null /tmp/dev/urandom /tmp/{LOG}
ln -s usr/bin usr/sbin usr/lib usr/lib64 tmp/proc /tmp
mount --bind -o ro,nosuid,nodev /usr /tmp/usr
for file in {GUESTS} {NAMES}; do mount -c --bind -o ro,nosuid,nodev,noexec "./$file" "/tmp/$file"; done
mount -c --bind -o rw,nosuid,nodev,noexec "./{LOG}" /tmp/{LOG}
for file in dev/null dev/urandom; do mount --bind "/$file" "/tmp/$file"; done
cd /tmp
pivot_root . tmp
cd /
mount -o remount,ro /
umount -l /tmp
uid=$2 capabilities=$3; shift 3
exec prlimit --fsize={LOG_BYTES} --core=0 --nofile=1024 setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs \
    --inh-caps="$capabilities" --ambient-caps="$capabilities" --bounding-set="$capabilities" "$@"
"""


class Launch(msgspec.Struct, frozen=True):
    """What a process was launched with. bridge, guests, names: numbers of the interface and the directories (inodes) that it
    follows: others by the same names are not heard."""

    service: Service
    program: str
    bridge: int
    guests: int
    names: int


class Process(msgspec.Struct, frozen=True):
    """user: root while it is being launched. launch: None if it makes no sense to this version."""

    pid: int
    parent: int
    user: int
    command: tuple[str, ...]
    directory: Path
    launch: Launch | None


def launch(all: Iterable[tuple[Launch, Program]], directory: Path, user: int) -> None:
    """Returns when they serve. directory: of their network. Raises Temporary."""
    children = [_begin(what, program, directory, user) for what, program in all]
    troubles = [_trouble(child) for child in children]
    if any(troubles):
        raise Temporary(f"dnsmasq cannot be started: {'; '.join(filter(None, troubles))}")


def _begin(what: Launch, program: Program, directory: Path, user: int) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            ["unshare", "--mount", "--ipc", "--uts", "--propagation", "private"]
            + ["sh", "-c", ENTER, "sh", str(directory), str(user), program.capabilities, *program.command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                DIRECTORY: str(directory),
                LAUNCH: msgspec.json.encode(what).decode(),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise Temporary(f"dnsmasq cannot be started: {error}") from error


def _trouble(child: subprocess.Popen[str]) -> str:
    """It ends when its own child serves, or cannot: then it says why."""
    try:
        said = child.communicate(timeout=START_S)[1]
    except subprocess.TimeoutExpired:
        with child:  # what it has left behind is found and ended before the next attempt
            child.kill()
        return f"it does not serve after {START_S:g} s"
    return (one_line(said) or f"exit code {child.returncode}") if child.returncode else ""


def find(directories: Path) -> Iterator[Process]:
    """All that serve a network whose directory is in this one: also those that are being launched, and those that a dnsmasq
    has started itself, one for each connection (its parent is among them)."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and "dnsmasq" in (command := command_of(entry)):
            with suppress(OSError):  # it is gone
                environment = environment_of(entry)
                directory = Path(environment.get(DIRECTORY, ""))
                process, user = int(entry.name), user_of(entry)
                if directory.parent == directories and is_users(user, directory.name):
                    yield Process(process, parent_of(process), user, command, directory, decoded(environment))


def is_users(user: int, network: str) -> bool:
    """Whether a process of this user may be one of the network's: anybody can call itself so, a guest's qemu, say."""
    return re.fullmatch(r"[0-9]{1,8}", network) is not None and user in (0, uid(int(network)))


def environment_of(process: Path) -> dict[str, str]:
    words = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def user_of(process: Path) -> int:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))


def decoded(environment: Mapping[str, str]) -> Launch | None:
    try:
        return msgspec.json.decode(environment.get(LAUNCH, ""), type=Launch)
    except msgspec.MsgspecError:
        return None


def end(processes: Iterable[Process]) -> None:
    """Kill them, and wait until they are gone. It has nothing to say goodbye to. Raises Temporary."""
    for process in processes:
        if found := _held(process):
            found.kill("dnsmasq")


def reread(process: Process) -> None:
    """Let it forget what is no longer in its directories."""
    if found := _held(process):
        found.send(signal.SIGHUP)


def _held(process: Process) -> Held | None:
    return held(process.pid, lambda pid: command_of(PROC / str(pid)) == process.command)
