"""The sets of the packet filter for the contract tests, by the kernel's own in a network namespace."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import msgspec
from things import Action, Subject

from tests.namespaces import Namespace
from ucloud.driver.overlay.names import bridge, tap, vxlan
from ucloud.driver.packetfilter.nft import NftPacketFilter
from ucloud.model.wiring import PortFilter, Segment, Taken

PUBLIC = Segment(vni=10, group="ff05::a", mtu=1430, gateways=("fd00:10::1/64",), public=True)
PRIVATE = Segment(vni=0xFFFFFF, group="ff05::ff:ffff", mtu=1430, gateways=("fd00:20::1/64", "10.1.0.1/24"), public=False)
WEB = PortFilter(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y2z", vni=10, mac="02:00:00:00:00:01", addresses=("fd00:10::ff:fe00:1", "10.2.0.7")
)
DB = PortFilter(
    vm="vm-01kd2g5x8p6q0v3n9r7t4w1y33", vni=10, mac="02:00:00:00:00:02", addresses=("fd00:10::ff:fe00:2",), allow=("ra", "dhcp")
)
TAP, OTHER_TAP, STRAY = tap(WEB.vni, WEB.vm), tap(DB.vni, DB.vm), tap(11, "vm-stray77")


def nft(*commands: str) -> Action:
    return lambda: subprocess.run(["nft", "; ".join(commands)], check=True, capture_output=True, timeout=60)


@contextmanager
def on_a_host() -> Iterator[Callable[[], NftPacketFilter]]:
    host = Namespace()
    try:
        with host:
            yield lambda: NftPacketFilter("up0", ["fd00:aa::/64"])
    finally:
        host.close()


def refuse() -> Action:
    """An nft that shows and does not change."""
    path, real = os.environ["PATH"], which("nft")
    directory = tempfile.TemporaryDirectory(prefix="ucloud-test-")
    program = Path(directory.name, "nft")
    program.write_text(f'#!/bin/sh\ncase $1 in --file) echo "no, not now" >&2; exit 1; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = f"{directory.name}:{path}"

    def allow() -> None:
        os.environ["PATH"] = path
        directory.cleanup()

    return allow


@contextmanager
def zones() -> Iterator[Subject]:
    public, gateways = "element inet ucloud public", "element bridge ucloud gateways6"
    with on_a_host() as driver:
        yield Subject(
            make=lambda: driver().zones,
            one=PUBLIC,
            changed=msgspec.structs.replace(PUBLIC, mtu=1400, gateways=("fd00:10::1/64", "10.2.0.1/16"), public=False),
            other=PRIVATE,
            refuse=refuse,
            damages={
                "nothing": nft(
                    f"delete {public} {{ {bridge(10)} }}", f"delete {gateways} {{ {vxlan(10)} . 0xfd{0x10:06x}{1:024x} }}"
                ),
                "not public": nft(f"delete {public} {{ {bridge(10)} }}"),
                "private too": nft(f"add element inet ucloud private {{ {bridge(10)} }}"),
                "no gateway": nft(f"delete {gateways} {{ {vxlan(10)} . 0xfd{0x10:06x}{1:024x} }}"),
                "a gateway more": nft(f"add {gateways} {{ {vxlan(10)} . 0xfd{0x10:06x}{2:024x} }}"),
                "a gateway open to others": nft(f"delete element inet ucloud gateways6 {{ 0xfd{0x10:06x}{1:024x} }}"),
                "more than a gateway closed": nft('add element inet ucloud gateways4 { 10.2.0.9 comment "10" }'),
                "other words": nft(
                    f"delete {public} {{ {bridge(10)} }}",
                    f'add {public} {{ {bridge(10)} comment "ff05::a 1430 fd00:10::3/64" }}',
                ),
            },
            strays={
                "bridge": nft(f"add {public} {{ {bridge(77)} }}"),
                "gateway": nft(f"add {gateways} {{ {vxlan(78)} . 5 }}"),
                "another's": nft(f'add {public} {{ eth7 comment "mine" }}'),
                "address": nft("add element inet ucloud gateways4 { 10.9.9.9 }"),
            },
        )


@contextmanager
def filters() -> Iterator[Subject]:
    with on_a_host() as driver:
        yield Subject(
            make=lambda: driver().filters,
            one=WEB,
            changed=msgspec.structs.replace(WEB, mac="02:00:00:00:00:09", addresses=("fd00:10::77",), allow=("dhcp",)),
            other=DB,
            refuse=refuse,
            damages={
                "no port": nft(f"delete element bridge ucloud ports {{ {TAP} }}"),
                "a port without words": nft(
                    f"delete element bridge ucloud ports {{ {TAP} }}", f"add element bridge ucloud ports {{ {TAP} : 10 }}"
                ),
                "in another network": nft(
                    f"delete element bridge ucloud ports {{ {TAP} }}",
                    f'add element bridge ucloud ports {{ {TAP} comment "{WEB.vm} {WEB.mac} {" ".join(WEB.addresses)}" : 11 }}',
                ),
                "no MAC": nft(f"delete element bridge ucloud macs {{ {TAP} . 0x20000000001 }}"),
                "a MAC more": nft(f"add element bridge ucloud macs {{ {TAP} . 0x20000000002 }}"),
                "no IPv4 address": nft(f"delete element bridge ucloud addresses4 {{ {TAP} . 10.2.0.7 }}"),
                "an IPv4 address more": nft(f"add element bridge ucloud addresses4 {{ {TAP} . 10.2.0.8 }}"),
                "an IPv6 address more": nft(
                    f"add element bridge ucloud addresses6 {{ {TAP} . 0xfe800000000000000000000000000007 }}"
                ),
                "no link-local address": nft(
                    f"delete element bridge ucloud addresses6 {{ {TAP} . 0xfe80000000000000000000fffe000001 }}"
                ),
                "allowed too much": nft(f"add element bridge ucloud may_route {{ {TAP} }}"),
            },
            strays={
                "MAC": nft(f"add element bridge ucloud macs {{ {STRAY} . 5 }}"),
                "port": nft(f"add element bridge ucloud ports {{ {STRAY} : 11 }}"),
                "nobody's interface": nft("add element bridge ucloud ports { eth7 : 7 }"),
                "leave": nft(f"add element bridge ucloud may_serve {{ {STRAY} }}"),
            },
        )


@contextmanager
def taken() -> Iterator[Subject]:
    one = Taken(vni=10, address="fe80::ff:fe00:1")
    with on_a_host() as driver:
        yield Subject(
            make=lambda: driver().taken,
            one=one,
            changed=one,
            other=Taken(vni=0xFFFFFF, address="fe80::ff:fe00:2"),
            refuse=refuse,
            damages={"gone": nft("delete element bridge ucloud taken { 10 . 0xfe80000000000000000000fffe000001 }")},
        )
