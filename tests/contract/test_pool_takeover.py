"""A directory that hosts share: what one of them has made or begun, or is still at, when another takes its VM over."""

import subprocess
import sys
from pathlib import Path

import pytest

from ucloud.driver.pool import directory
from ucloud.driver.pool.directory import DirectoryPool

IMAGE = "image-01kd2g5x8p6q0v3n9r7t4w1y2z"
VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A pool with an image."""
    pool = DirectoryPool("shared", tmp_path / "pool")
    pool.prepare()
    (raw := tmp_path / "raw").write_bytes((bytes(510) + b"\x55\xaa").ljust(MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, tmp_path / "pool" / "images" / f"{IMAGE}.qcow2"], check=True)
    return tmp_path / "pool"


def host(root: Path) -> DirectoryPool:
    return DirectoryPool("shared", root)


def io(disk: Path, command: str) -> str:
    return subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, disk], check=True, capture_output=True, text=True).stdout


def disk_of(root: Path) -> Path:
    return Path(host(root).attachment(VM, "root").path)


def test_a_disk_is_taken_over_with_all_that_its_guest_wrote(root: Path) -> None:
    host(root).add_disk(VM, "root", IMAGE, 8)
    io(disk_of(root), "write -P 7 1M 64k")
    before = disk_of(root).read_bytes()
    host(root).add_disk(VM, "root", IMAGE, 8)
    assert disk_of(root).read_bytes() == before
    host(root).add_disk(VM, "root", IMAGE, 16)
    assert "Pattern verification failed" not in io(disk_of(root), "read -P 7 1M 64k")
    assert list(host(root).disks()) == [(VM, "root")]


DIES = """
import os, signal, sys
from pathlib import Path
from ucloud.driver.pool import directory, files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(*arguments):
    Path(arguments[-2]).write_bytes(b"QFI\\xfb")
    die()

step, root, vm, image = sys.argv[1:]
if step == "cloning":
    directory.qemu_img = half
if step == "naming":
    Path.hardlink_to = die
if step == "noting":
    Path.touch = lambda file, *_: die() if file.parent.name == "made" else open(file, "w").close()
directory.DirectoryPool("shared", root).add_disk(vm, "root", image, 8)
"""


@pytest.mark.parametrize("step", ["cloning", "naming", "noting"])
def test_a_clone_that_a_dying_host_left_half_made_is_no_disk(root: Path, step: str) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, step, root, VM, IMAGE], check=False, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    assert list(host(root).disks()) == ([(VM, "root")] if step == "noting" else [])
    host(root).add_disk(VM, "root", IMAGE, 8)
    assert "Pattern verification failed" not in io(disk_of(root), "read -P 0 1M 64k")
    assert "8 MiB" in subprocess.run(["qemu-img", "info", disk_of(root)], capture_output=True, text=True).stdout
    host(root).remove_disk(VM, "root")
    assert [file.name for file in (root / "disks").rglob("*")] == [], "nor is anything left of it"


def test_a_host_that_comes_late_with_its_clone_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood still while it was at it, and another one has long been running the guest."""
    qemu_img, late = directory.qemu_img, host(root)

    def meanwhile(*arguments: str) -> None:
        monkeypatch.undo()
        qemu_img(*arguments)
        host(root).add_disk(VM, "root", IMAGE, 8)
        io(disk_of(root), "write -P 7 1M 64k")

    monkeypatch.setattr(directory, "qemu_img", meanwhile)
    late.add_disk(VM, "root", IMAGE, 8)
    assert "Pattern verification failed" not in io(disk_of(root), "read -P 7 1M 64k")
    assert [file.name for file in (root / "disks" / VM).iterdir()] == ["root.qcow2"]
