"""The command line of a guest: as text that a reviewer can read (tests/golden/qemu-command.txt), and read back."""

from pathlib import Path

import msgspec
import pytest

from ucloud.driver.hypervisor.contract import GuestDisk, GuestNic, GuestSpec
from ucloud.driver.hypervisor.qemu_command import (
    Files,
    Identity,
    PluggedNic,
    command_line,
    identity,
    nic_id,
    plugged,
    reason,
    uid,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "qemu-command.txt"
VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
SPEC = GuestSpec(
    vm=VM,
    name="hello",
    epoch=3,
    boots=2,
    cpus=2,
    memory_mib=512,
    disks=(
        GuestDisk(name="root", path="/var/lib/ucloud/pool/disk/a.qcow2"),
        GuestDisk(name="data", path='/odd, "path"', format="raw"),
    ),
    nics=(
        GuestNic(mac="02:00:00:00:01:0b", tap="ut0000641y2z", mtu=1430),
        GuestNic(mac="02:00:00:00:02:0b", tap="ut0000c81y2z", mtu=1400),
    ),
)
FILES = Files(qmp=10, console=11, log=12, taps=(13, 14), cidata=15)


def test_the_command_line_is_as_reviewed() -> None:
    lines: list[str] = []
    for word in command_line(SPEC, "tcg", FILES, direct=True):
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


def test_kvm_shows_the_hosts_own_processor() -> None:
    words = command_line(SPEC, "kvm", FILES, direct=False)
    assert words[words.index("-accel") + 1] == "kvm"
    assert words[words.index("-cpu") + 1] == "host"
    assert '"direct": false' in " ".join(words)


def test_a_guest_without_interfaces_gets_none_of_qemus_own() -> None:
    words = command_line(msgspec.structs.replace(SPEC, nics=()), "tcg", msgspec.structs.replace(FILES, taps=()), direct=True)
    assert words[words.index("-nic") + 1] == "none"
    assert "-netdev" not in words


def test_a_guest_that_is_told_nothing_has_no_cidata_disk() -> None:
    assert "cidata" not in " ".join(command_line(SPEC, "tcg", msgspec.structs.replace(FILES, cidata=None), direct=True))


def test_an_interface_is_known_by_its_id() -> None:
    id = nic_id(8, SPEC.nics[0])
    assert plugged(id) == PluggedNic(id, 8, SPEC.nics[0].mac, SPEC.nics[0].tap)
    for other in ("", "port1", "nic1", "nic1-02000000010b", "nic1-02000000010b-", "nic1-zz000000010b-ut1", "type"):
        assert plugged(other) is None


def test_a_guest_is_known_by_its_command_line_whatever_wraps_it() -> None:
    words = command_line(SPEC, "tcg", FILES, direct=True)
    assert identity(words) == identity(["sh", "-c", "exec", *words]) == Identity(VM, 3, 2)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bash"],
        ["qemu-system-x86_64", "-name", "other"],
        ["qemu-system-x86_64", "-smbios", "type=11,value=ucloud-epoch=1,value=ucloud-boots=1"],
        ["qemu-system-x86_64", "-name", VM, "-smbios", "type=11,value=ucloud-epoch=x,value=ucloud-boots=1"],
        ["qemu-system-x86_64", "-name", VM, "-smbios", "type=11,path=/etc/passwd"],
        ["qemu-system-x86_64", "-name", VM, "-smbios", "type=11,garbage"],
        ["qemu-system-x86_64", "-name", VM, "-smbios", "type=11,value=ucloud-epoch=" + "9" * 5000],
    ],
)
def test_what_is_not_ours_is_nobody(words: list[str]) -> None:
    assert identity(words) is None


def test_each_vm_has_its_own_user_that_nobody_else_hands_out() -> None:
    users = {uid(f"vm-{number}") for number in range(1000)}
    assert len(users) == 1000
    assert all(0x70000000 <= user < 0x7F000000 for user in users)
    assert uid(VM) == uid(VM)


@pytest.mark.parametrize(
    ("complaints", "why"),
    [
        ("", ""),
        ("sh: 1: cannot create x: denied\n", "sh: 1: cannot create x: denied"),
        ('qemu-system-x86_64: -blockdev {"file": {"a": 1}}: Could not open x\n', "Could not open x"),
        (
            'qemu-system-x86_64: warning: odd\nqemu-system-x86_64: -blockdev {}: Failed to get "write" lock\nIs it used?\n',
            'Failed to get "write" lock Is it used?',
        ),
    ],
)
def test_what_people_are_told_of_a_failure(complaints: str, why: str) -> None:
    assert reason(complaints) == why
