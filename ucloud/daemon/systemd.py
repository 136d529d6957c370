"""The daemons of one host as units of systemd. `ucloud host join` installs them where systemd runs.

Each daemon is a unit of its own, so that none ends with another: lease and deadman are each other's heir. Stopping a unit ends
its main process alone, never the guests, which are in control groups of ucloud's own.
"""

import subprocess
from pathlib import Path

from ucloud.base.errors import Error
from ucloud.daemon.cloud import ucloud_command
from ucloud.daemon.node import KINDS

UNITS = Path("/etc/systemd/system")
RUNS = Path("/run/systemd/system")  # sd_booted(3)
UNIT = """\
# Written by `ucloud host join`; changes belong into `systemctl edit {name}`.
[Unit]
Description=ucloud: {kind} daemon of this host
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=200ms
KillMode=process
LimitNOFILE=infinity
LimitMEMLOCK=infinity
LimitRTPRIO=1

[Install]
WantedBy=multi-user.target
"""


def runs() -> bool:
    return RUNS.is_dir()


def start(file: Path) -> None:
    """Install the units, and start them anew; they come back with each boot. file: with the settings. Raises Error."""
    for kind in KINDS:
        (UNITS / name_of(kind)).write_text(unit(kind, file))
    call("daemon-reload")
    call("enable", *map(name_of, KINDS))
    call("restart", *map(name_of, KINDS))


def unit(kind: str, file: Path) -> str:
    words = ucloud_command("daemon", kind, "--config", str(file))
    return UNIT.format(name=name_of(kind), kind=kind, command=" ".join(map(quoted, words)))


def quoted(word: str) -> str:
    """As systemd.service(5) reads commands."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def name_of(kind: str) -> str:
    return f"ucloud-{kind}.service"


def call(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Error(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
