"""A cloud of three hosts on this machine, and what can be seen of it from outside."""

import json
import re
from pathlib import Path

from tests.conftest import RunningCloud
from ucloud.daemon.cloud import Cloud, find_cloud
from ucloud.driver.link.linux import LinuxLinks
from ucloud.driver.overlay.names import BRIDGE, TAP, VXLAN
from ucloud.driver.process.linux import LinuxProcesses


class Wide(RunningCloud):
    @property
    def plan(self) -> Cloud:
        found = find_cloud(self.name)
        assert found
        return found

    def interfaces(self, host: str) -> set[str]:
        return set(LinuxLinks().interfaces(f"{self.name}-{host}"))

    def interface(self, host: str, kind: str) -> str:
        """The only one of this kind."""
        [found] = [name for name in self.interfaces(host) if name.startswith(kind)]
        return found

    def processes(self, host: str, program: str) -> list[int]:
        """By the names of their programs."""
        found = LinuxProcesses().inside(f"{self.name}-{host}")
        return [process.pid for process in found if Path(process.command[0]).name == program]

    def routes_outside(self) -> list[str]:
        """Addresses that the router was told of."""
        shown = json.loads(self.inside("router", "ip", "-6", "-j", "route", "show", "proto", "bird"))
        return sorted(route["dst"] for route in shown)

    def traces(self, host: str) -> list[str]:
        """What is there of any VM's network."""
        links = self.interfaces(host) - {"lo", "up0"}
        routes = [line for line in self.inside(host, "ip", "-6", "route").splitlines() if not re.search("dev (up0|lo)", line)]
        ruleset = self.inside(host, "nft", "list", "ruleset")
        named = re.compile(rf'"({TAP}|{BRIDGE}|{VXLAN})[0-9a-f]')
        elements = [line.strip() for line in ruleset.splitlines() if named.search(line) and "expires" not in line]
        services = [f"dnsmasq {pid}" for pid in self.processes(host, "dnsmasq")]
        return [*links, *routes, *elements, *services]
