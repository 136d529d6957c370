"""`ucloud daemon node`: keeps the daemons of one host running where no systemd does. `ucloud host join` starts it, detached.

What ends is started again as the supervisor of `ucloud up` does it, whose parts these are. Its own end takes the daemons with
it, the host daemon first and the lease last; guests go on until their lease has run out, if they have one.
"""

import logging
import signal
import time
from pathlib import Path

from ucloud.base import log as logs
from ucloud.base.config import Config
from ucloud.daemon import logfile, platform
from ucloud.daemon.cloud import Daemon, ucloud_command
from ucloud.daemon.process import need_host_id, take_lock
from ucloud.daemon.supervisor import SIGNALS, Child, reap, stop

log = logging.getLogger("ucloud.node")

KINDS = ("metadata", "deadman", "lease", "host")  # in the order in which they start; they stop in reverse


def main(config: Config, file: Path) -> None:
    """Run until SIGTERM. file: with the settings, which the daemons read too. Raises Conflict when the host has one already,
    Invalid when it does not know its id."""
    id = need_host_id(config)
    log_dir = logs_of(config)
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with take_lock(Path(config.host.state_dir), "node"):
        logs.setup(handler=logfile.bounded(log_dir / "node.log"))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before there are threads: they inherit it
        platform.processes().adopt_orphans()
        children = [child(kind, file, log_dir) for kind in KINDS]
        log.info("supervising host %s (%s)", config.host.name, id)
        keep_running(children)
        for one in reversed(children):
            stop([one], children)
        log.info("stopped")


def logs_of(config: Config) -> Path:
    return Path(config.host.state_dir) / "log"


def command_of(kind: str, file: Path) -> tuple[str, ...]:
    """Of a daemon with these settings, or of `node` itself."""
    return ucloud_command("daemon", kind, "--config", str(file))


def child(kind: str, file: Path, log_dir: Path) -> Child:
    daemon = Daemon(kind, "", "", command_of(kind, file), needs=file)
    command = platform.processes().daemon_command(daemon.namespace, daemon.command)
    return Child(daemon, command, logfile.pipe_to(log_dir / f"{kind}.log"))


def keep_running(children: list[Child]) -> None:
    """Until SIGTERM or SIGINT."""
    while True:
        now_s = time.monotonic()
        for one in children:
            if one.wait_s(now_s) <= 0:
                one.start(now_s)
        came = signal.sigtimedwait(SIGNALS, min(one.wait_s(now_s) for one in children))
        if came and came.si_signo in (signal.SIGTERM, signal.SIGINT):
            return
        reap(children)
