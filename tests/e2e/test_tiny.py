"""The image `tiny`, built and booted by qemu alone: what every other test with a real guest takes for granted."""

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType

import pytest

from tests.contract.hypervisors import QemuWorld, wait_for
from ucloud.driver.hypervisor.contract import GuestDisk, GuestNic, GuestSpec
from ucloud.driver.hypervisor.qemu import QemuHypervisor
from ucloud.model.eui64 import address

REPOSITORY = Path(__file__).parents[2]
UUID = "0f5d3c1e-5b0f-4c57-9d6e-5a1b6a2f7c11"
DEADLINE_S = 120  # emulated, on a machine that may do other things


class Guest:
    """A guest with this disk, as the `with` statement's life."""

    def __init__(self, disk: Path) -> None:
        self._qmp = disk.with_suffix(".qmp")
        self.console = b""
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg", "-cpu", "max"]
            + ["-smp", "1", "-m", "128", "-display", "none", "-serial", "stdio", "-qmp", f"unix:{self._qmp},server=on,wait=off"]
            + ["-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={disk}"]
            + ["-device", "virtio-blk-pci,drive=disk,bootindex=1", "-device", "virtio-rng-pci"]
            + ["-smbios", f"type=1,uuid={UUID}", "-smbios", "type=11,value=ucloud-epoch=7,value=ucloud-boots=3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, text: str) -> str:
        """What was on the console up to and with `text`, which is then taken from it."""
        assert self.process.stdout
        deadline_s = time.monotonic() + DEADLINE_S
        while text.encode() not in self.console:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline_s - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert more, f"no {text!r} on the console, but: {self.console.decode(errors='replace')}"
            self.console += more
        before, _, self.console = self.console.partition(text.encode())
        return before.decode(errors="replace") + text

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def open_shell(self) -> None:
        self.wait_for("press Enter")
        self.type("")
        self.wait_for("# ")

    def press_power_button(self) -> None:
        with socket.socket(socket.AF_UNIX) as qmp, qmp.makefile("rw") as lines:
            qmp.settimeout(DEADLINE_S)
            qmp.connect(str(self._qmp))
            for command in ("qmp_capabilities", "system_powerdown"):
                lines.write(f'{{"execute": "{command}"}}\n')
                lines.flush()
                while '"return"' not in lines.readline():
                    pass  # the greeting, or an event


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("tiny") / "tiny.qcow2"
    subprocess.run([REPOSITORY / "script/tiny-image", image], check=True)
    return image


@pytest.fixture
def guest(image: Path, tmp_path: Path) -> Iterator[Guest]:
    disk = tmp_path / "disk.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(disk), "100M"]
    subprocess.run(create, check=True)
    with Guest(disk) as guest:
        yield guest


def test_image_is_small(image: Path) -> None:
    assert image.stat().st_size < 40 * 1024 * 1024


def test_guest_says_what_it_is_writes_reboots_and_powers_off(guest: Guest, tmp_path: Path) -> None:
    guest.wait_for("ucloud tiny: up after ")
    said = guest.wait_for("ucloud tiny: ready")
    for line in (f"uuid {UUID}", "ucloud-epoch=7", "ucloud-boots=3", "cpus 1", "disk vda 100 MiB"):
        assert line in said.splitlines()
    guest.open_shell()
    guest.type("echo written | dd of=/dev/vda bs=1M seek=99 conv=fsync 2>/dev/null; echo wrote=$?")
    guest.wait_for("wrote=0")
    guest.type("reboot")
    guest.wait_for("ucloud tiny: up after ")
    guest.open_shell()
    guest.type("dd if=/dev/vda bs=1M skip=99 2>/dev/null | head -c 7 | tr a-z A-Z")
    guest.wait_for("WRITTEN")
    guest.type("poweroff")
    assert guest.process.wait(DEADLINE_S) == 0


def test_guest_heeds_the_power_button(guest: Guest) -> None:
    guest.wait_for("ucloud tiny: ready")
    guest.press_power_button()
    guest.wait_for("ucloud tiny: power button")
    assert guest.process.wait(DEADLINE_S) == 0


VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"


class Router:
    """Router, DHCP and DNS server of one network with one guest on it, as the `with` statement's life."""

    def __init__(self, nic: GuestNic, directory: Path, subnet: str, ipv4: str) -> None:
        self.guest_ipv6, self._guest_ipv4 = address(subnet, nic.mac), f"{ipv4}.9"
        self._run_file = directory / f"{nic.tap}.pid"
        self._interface = nic.tap
        gateway = str(IPv6Address(int(IPv6Address(subnet.split("/")[0])) + 1))
        for own in (f"{gateway}/64", f"{ipv4}.1/24"):
            subprocess.run(["ip", "address", "add", own, "dev", nic.tap, *(["nodad"] if ":" in own else [])], check=True)
        subprocess.run(["ip", "link", "set", nic.tap, "up"], check=True)
        self._command = [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--leasefile-ro"),
            *("--bind-interfaces", "--except-interface=lo", f"--interface={nic.tap}", f"--pid-file={self._run_file}"),
            *("--enable-ra", f"--dhcp-range={subnet.split('/')[0]},ra-only"),
            *(f"--dhcp-range={ipv4}.0,static", f"--dhcp-host={nic.mac},{self._guest_ipv4}"),
            f"--host-record=here.test,{gateway}",
        ]

    def __enter__(self) -> "Router":
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def reaches_guest(self) -> bool:
        pings = (["ping", "-c", "1", "-W", "1", "-I", self._interface, to] for to in (self.guest_ipv6, self._guest_ipv4))
        return all(subprocess.run(ping, stdout=subprocess.DEVNULL).returncode == 0 for ping in pings)


@pytest.fixture
def world() -> Iterator[QemuWorld]:
    world = QemuWorld()
    try:
        yield world
    finally:
        world.close()


def started(world: QemuWorld, image: Path, nic: GuestNic) -> QemuHypervisor:
    disk = world.directory / f"{VM}.disk"
    subprocess.run(["cp", image, world.image("tiny")], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "tiny.qcow2", disk], check=True)
    disks = (GuestDisk(name="root", path=str(disk)),)
    driver = world.driver()
    driver.start(GuestSpec(vm=VM, name="tiny", epoch=1, boots=1, cpus=1, memory_mib=128, disks=disks, nics=(nic,)))
    return driver


def test_guest_takes_addresses_on_interfaces_that_come_and_go(image: Path, world: QemuWorld) -> None:
    """By the production driver, in a network namespace of the test's own."""
    first, second = world.nic(1), world.nic(2)
    with contextlib.ExitStack() as routers:
        one = routers.enter_context(Router(first, world.directory, "fd00:0:0:1::/64", "10.0.1"))
        two = routers.enter_context(Router(second, world.directory, "fd00:0:0:2::/64", "10.0.2"))
        driver = started(world, image, first)

        def says(line: str, times: int = 1) -> None:
            wait_for(lambda: driver.log(VM).data.decode().count(line) >= times, line, DEADLINE_S)

        says(f"eth0 {one.guest_ipv6}\r\n")
        wait_for(one.reaches_guest, "the guest to answer", DEADLINE_S)
        driver.attach(VM, second)
        says(f"eth1 {two.guest_ipv6}\r\n")
        wait_for(two.reaches_guest, "the guest to answer on the second one, too", DEADLINE_S)

        driver.detach(VM, first.mac)
        assert driver.actual()[VM].macs == {second.mac}
        assert not one.reaches_guest()
        assert two.reaches_guest()
        driver.attach(VM, first)
        says(f"eth0 {one.guest_ipv6}\r\n", times=2)
        wait_for(one.reaches_guest, "the guest to answer again", DEADLINE_S)

        with contextlib.closing(driver.console(VM)) as console:
            console.type(b"\nnslookup here.test | tr a-z A-Z\n")
            says("NAME:\tHERE.TEST")


def test_guest_whose_tap_was_deleted_gets_another(image: Path, world: QemuWorld) -> None:
    nic = world.nic(1)
    driver = started(world, image, nic)
    wait_for(lambda: "ucloud tiny: ready" in driver.log(VM).data.decode(), "the guest to boot", DEADLINE_S)
    world.cut(driver, VM, nic)
    assert driver.actual()[VM].cut == {nic.mac}
    with Router(nic, world.directory, "fd00:0:0:1::/64", "10.0.1") as router:
        driver.attach(VM, nic)
        assert driver.actual()[VM].cut == frozenset()
        wait_for(router.reaches_guest, "the guest to answer", DEADLINE_S)
