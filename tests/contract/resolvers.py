"""The sets of the resolver for the contract tests: services, reservations and names of a host that is a network namespace."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from msgspec.structs import replace
from things import Action, Subject

from tests.bridges import add_bridge
from tests.namespaces import Namespace, ip
from ucloud.driver.overlay.names import bridge
from ucloud.driver.resolver import dnsmasq_process
from ucloud.driver.resolver.dnsmasq import DnsmasqResolver
from ucloud.driver.things import Things
from ucloud.model.wiring import HostName, Reservation, Service

ONE = Service(
    vni=100, ipv6="fd00:100::/64", ipv4="10.1.0.0/24", mtu=1430, slaac=False, routed=False, domain="lan.ucloud.internal"
)
OTHER = Service(vni=0xFFFFFF, ipv6="fd00:200::/64", ipv4="", mtu=1430, slaac=True, routed=True, domain="net.ucloud.internal")
WEB = Reservation(vm="vm-1", vni=100, name="web", mac="02:00:00:00:00:01", ipv6="fd00:100::ff:fe00:1", ipv4="10.1.0.5")
DB = Reservation(vm="vm-2", vni=100, name="db", mac="02:00:00:00:00:02", ipv6="fd00:100::ff:fe00:2", ipv4="")

Named: TypeAlias = Reservation | HostName


@contextmanager
def on_a_host() -> Iterator[tuple[Path, Callable[[], DnsmasqResolver]]]:
    """This thread is on it meanwhile. Yields the directory of its networks, and what makes the driver, as each daemon does."""
    host, run_dir = Namespace(), Path(tempfile.mkdtemp(prefix="uct-"))
    directory = run_dir.resolve() / "resolver"
    try:
        with host:
            add_bridge(ONE)
            add_bridge(OTHER)
            yield directory, lambda: DnsmasqResolver(run_dir, [])
    finally:
        dnsmasq_process.end(list(dnsmasq_process.find(directory)))
        shutil.rmtree(run_dir)
        host.close()


@contextmanager
def services() -> Iterator[Subject]:
    with on_a_host() as (directory, driver), ExitStack() as children:
        network = directory / ONE.key

        def kill(*programs: str) -> Action:
            def act() -> None:
                for process in list(dnsmasq_process.find(network.parent)):
                    if process.launch and process.launch.service == ONE and process.launch.program in programs:
                        dnsmasq_process.end([process])

            return act

        def another_bridge() -> None:
            ip(f"link delete {bridge(ONE.vni)}")
            add_bridge(ONE)

        def another(kind: str) -> Action:
            def act() -> None:
                (network / kind).rename(directory / f"{kind}.old")
                (network / kind).mkdir()
                (directory / f"{kind}.old").rmdir()

            return act

        def refuse() -> Action:
            ip(f"link delete {bridge(OTHER.vni)}")
            return lambda: add_bridge(OTHER)

        def left_behind() -> None:
            (directory / "77").mkdir()
            (directory / "77" / "log").touch()

        def launched_by_somebody() -> None:
            """It may become a dnsmasq some time."""
            environment = {**os.environ, dnsmasq_process.DIRECTORY: str(directory / "78")}
            command = ["sh", "-c", "echo; read word", "dnsmasq"]
            child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            children.enter_context(child)
            assert child.stdout
            child.stdout.readline()  # from now on it is seen

        yield Subject(
            make=lambda: driver().services,
            one=ONE,
            changed=replace(ONE, mtu=1400, slaac=True, routed=True, domain="other.ucloud.internal"),
            other=OTHER,
            refuse=refuse,
            damages={
                "no process": kill("dns", "dhcp6", "dhcp4"),
                "no DHCPv4": kill("dhcp4"),
                "no DHCPv6": kill("dhcp6"),
                "no DNS": kill("dns"),
                "another bridge": another_bridge,
                "another directory of guests": another("guests"),
                "another directory of names": another("names"),
            },
            strays={"a directory": left_behind, "a process": launched_by_somebody},
        )


@contextmanager
def reservations() -> Iterator[Subject]:
    with on_a_host() as (directory, driver):
        driver().services.add([ONE])
        yield files(directory / ONE.key / "guests", lambda: driver().reservations, WEB, replace(WEB, ipv4="10.1.0.6"), DB)


@contextmanager
def names() -> Iterator[Subject]:
    one, other = (HostName(vm=of.vm, vni=of.vni, name=of.name, addresses=(of.ipv6,)) for of in (WEB, DB))
    with on_a_host() as (directory, driver):
        yield files(directory / ONE.key / "names", lambda: driver().names, one, replace(one, name="gateway"), other)


def files(directory: Path, make: Callable[[], Things[Any]], one: Named, changed: Named, other: Named) -> Subject:
    """directory: of the files of their network."""
    file = directory / one.vm

    def refuse() -> Action:
        (directory / other.vm).mkdir()
        return (directory / other.vm).rmdir

    return Subject(
        make=make,
        one=one,
        changed=changed,
        other=other,
        refuse=refuse,
        damages={
            "no file": file.unlink,
            "a line more": lambda: file.write_text(f"{file.read_text()}fd00::1 bank\n"),
            "a line less": lambda: file.write_text(file.read_text().partition("\n")[0]),
            "no text": lambda: file.write_bytes(b"\xff"),
            "another's": lambda: file.write_text((directory / other.vm).read_text() if (directory / other.vm).exists() else ""),
        },
        strays={
            "a file": lambda: (directory / "vm-9").write_text(""),
            "another's": lambda: shutil.copy(file, directory / "vm-9"),
        },
    )
