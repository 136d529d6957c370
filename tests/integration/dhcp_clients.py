"""Programs that guests use to find out about their network: rdisc6, and ISC's dhclient. Each runs in the namespace that the
thread is in, and changes nothing there."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0
LOOK_S = 0.05
EAGER = "reboot 1; initial-interval 1; backoff-cutoff 1; also request interface-mtu;"
SCRIPT = """#!/bin/sh
[ -z "$new_ip6_address$new_ip_address" ] || env | grep ^new_ | sort
echo "$reason."
"""


def advertised(interface: str) -> dict[str, str]:
    """What the one router says when asked, by rdisc6's words. What it says of a prefix begins with that, as there may be
    several. Of several routers it would be the first."""
    said = ""
    until_s = time.monotonic() + PATIENCE_S
    while "from" not in said and time.monotonic() < until_s:
        said = subprocess.run(
            ["rdisc6", "-1", interface], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        ).stdout
    found, option = dict[str, str](), ""
    for line in (line for line in said.splitlines() if ": " in line):
        name, value = (word.strip() for word in line.split(":", 1))
        if line.startswith("  "):  # about the option above it
            found[f"{option} {name}"] = value
        else:
            found[name], option = value, value
    sender = re.search(r"from (\S+)", said)
    return found | {"from": sender[1] if sender else ""}


class Client:
    """A dhclient that is running. heard: all that it has printed."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path, leases: Path) -> None:
        self._process, self._output, self.leases = process, output, leases

    @property
    def heard(self) -> str:
        return self._output.read_text()

    def wait(self, what: str, times: int = 1) -> str:
        """Until this was printed so often. Answers all that was."""
        wait_for(lambda: len(re.findall(what, self.heard)) >= times, lambda: f"{what} {times} times in: {self.heard}")
        return self.heard

    def bound(self) -> dict[str, str]:
        """What it was given, by dhclient's words, once it was."""
        heard = self.wait(r"(BOUND6?|REBOOT|RENEW6?)\.")
        return dict(re.findall(r"^new_(\w+)=(.*)$", heard, re.MULTILINE))


@contextmanager
def dhclient(directory: Path, family: int, *options: str, config: str = "", leases: str = "") -> Iterator[Client]:
    """On the interface eth0. leases: what it remembers of earlier times; config: dhclient.conf(5)."""
    number = len(list(directory.iterdir()))
    script, file, conf, output = (directory / f"{name}{number}" for name in ("script", "leases", "conf", "output"))
    script.write_text(SCRIPT)
    script.chmod(0o755)
    file.write_text(leases)
    conf.write_text(f"{EAGER}\n{config}\n")
    command = [
        "dhclient",
        f"-{family}",
        "-d",
        "-v",
        "-lf",
        file,
        "-cf",
        conf,
        "-sf",
        script,
        "-pf",
        "/dev/null",
        *options,
        "eth0",
    ]
    with output.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
    try:
        yield Client(process, output, file)
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], said: Callable[[], object] = lambda: "") -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, said()
        time.sleep(LOOK_S)


def lease6(address: str, age_s: int) -> str:
    """What a dhclient remembers that was given an address by any host of a cloud. From 3,600 s on it wants it renewed."""
    start = int(time.time()) - age_s
    return f"""default-duid "\\000\\003\\000\\001\\002\\000\\000\\000\\000\\001";
lease6 {{
  interface "eth0";
  ia-na 00:00:00:01 {{
    starts {start};
    renew 3600;
    rebind 6300;
    iaaddr {address} {{ starts {start}; preferred-life 7200; max-life 7500; }}
  }}
  option dhcp6.client-id 0:3:0:1:2:0:0:0:0:1;
  option dhcp6.server-id 0:2:0:0:7e:d9:75:63:6c:6f:75:64;
}}
"""
