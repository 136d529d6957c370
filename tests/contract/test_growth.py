"""Disks that are there already and shall be larger: the contract, on a pool of each kind; then what a guest may have done to
its disk."""

import os
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_pool import IMAGE, VM, directory, make, prepared, receive
from ucloud.base.errors import NotYet, Temporary
from ucloud.driver.pool.contract import Pool
from ucloud.driver.pool.directory import DirectoryPool
from ucloud.driver.pool.fake import FakePool

__all__ = ["directory", "make"]  # fixtures

MIB = 1024 * 1024


@pytest.fixture(params=["fake", "directory"])
def pool(request: pytest.FixtureRequest, tmp_path: Path, make: Callable[..., bytes]) -> Pool:
    pool = FakePool() if request.param == "fake" else prepared(DirectoryPool("local", tmp_path / "pool"))
    receive(pool, make("qcow2"))
    pool.publish(IMAGE, 8)
    return pool


@pytest.fixture
def disk(directory: DirectoryPool, make: Callable[..., bytes], tmp_path: Path) -> Path:
    """Of 8 MiB, in a pool of directories."""
    receive(directory, make("qcow2"))
    directory.publish(IMAGE, 8)
    directory.add_disk(VM, "root", IMAGE, 8)
    return tmp_path / "pool/disks" / VM / "root.qcow2"


def size_mib(pool: Pool, name: str = "root") -> int:
    """As whoever opens the disk sees it."""
    if isinstance(pool, FakePool):
        return pool.size_mib(VM, name)
    shown = subprocess.run(["qemu-img", "info", pool.attachment(VM, name).path], check=True, capture_output=True, text=True)
    return int(shown.stdout.split("virtual size:")[1].split("(")[1].split()[0]) // MIB


def test_it_grows_and_never_shrinks(pool: Pool) -> None:
    pool.add_disk(VM, "root", IMAGE, 8)
    for wanted, expected in [(8, 8), (20, 20), (20, 20), (10, 20), (3000, 3000), (1 << 26, 1 << 26)]:
        pool.add_disk(VM, "root", IMAGE, wanted)
        assert size_mib(pool) == expected
    assert list(pool.disks()) == [(VM, "root")]


def test_only_the_one_that_is_named_grows(pool: Pool) -> None:
    pool.add_disk(VM, "root", IMAGE, 8)
    pool.add_disk(VM, "more", IMAGE, 8)
    pool.add_disk(VM, "more", IMAGE, 9)
    assert (size_mib(pool), size_mib(pool, "more")) == (8, 9)


def io(disk: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", "qcow2", *words, str(disk)], check=True, capture_output=True, text=True)
    assert "failed" not in done.stdout
    return done.stdout


def test_what_was_written_is_kept_and_what_is_added_is_zero(directory: DirectoryPool, disk: Path) -> None:
    io(disk, "write -P 7 0 8M")
    directory.add_disk(VM, "root", IMAGE, 20)
    io(disk, "read -P 7 0 8M", "read -P 0 8M 12M")
    subprocess.run(["qemu-img", "check", "-q", str(disk)], check=True)


def test_it_is_roots_again_however_it_went(directory: DirectoryPool, disk: Path) -> None:
    os.chown(disk, 0x70000001, 0x70000001)  # a guest had it
    directory.add_disk(VM, "root", IMAGE, 20)
    assert (disk.stat().st_uid, stat.S_IMODE(disk.stat().st_mode)) == (0, 0o600)
    changed(disk, 72, ">Q", 1 << 40)  # a feature that nobody knows
    with pytest.raises(Temporary, match="cannot grow to 30 MiB"):
        directory.add_disk(VM, "root", IMAGE, 30)
    assert disk.stat().st_uid == 0


def changed(disk: Path, at: int, layout: str, value: int) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(layout, value))


def test_a_disk_that_a_guest_has_does_not_grow(directory: DirectoryPool, disk: Path) -> None:
    """qemu's own lock says so."""
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as guest:
        assert guest.stdin
        assert guest.stdout
        guest.stdin.write("write 0 512\n")
        guest.stdin.flush()
        assert "wrote" in guest.stdout.readline() + guest.stdout.readline()
        with pytest.raises(NotYet, match="is still locked"):
            directory.add_disk(VM, "root", IMAGE, 20)
        guest.stdin.close()
    directory.add_disk(VM, "root", IMAGE, 20)


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", bytes(4096)], ids=["empty", "only the magic", "zeros"])
def test_a_damaged_disk_is_said(directory: DirectoryPool, disk: Path, content: bytes) -> None:
    disk.write_bytes(content)
    with pytest.raises(Temporary, match="is damaged"):
        directory.add_disk(VM, "root", IMAGE, 20)
    assert disk.read_bytes() == content


def test_a_guest_that_names_other_files_in_its_disk_reaches_none(
    directory: DirectoryPool, disk: Path, make: Callable[..., bytes], tmp_path: Path
) -> None:
    """The files of the machine are not there where its disk is opened: neither read nor written."""
    prey = tmp_path / "prey"
    prey.write_bytes(bytes(MIB))
    disk.write_bytes(make("qcow2", "-u", "-F", "raw", "-b", str(prey)))
    directory.add_disk(VM, "root", IMAGE, 20)
    made = make("qcow2", "-o", f"data_file={prey},data_file_raw=on")
    prey.write_bytes(bytes(MIB))
    disk.write_bytes(made)
    with pytest.raises(Temporary, match="cannot grow to 30 MiB"):
        directory.add_disk(VM, "root", IMAGE, 30)
    assert prey.read_bytes() == bytes(MIB)


def test_in_a_full_pool_it_waits(tmp_path: Path, make: Callable[..., bytes]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        full = prepared(DirectoryPool("small", small))
        receive(full, make("qcow2"))
        full.publish(IMAGE, 8)
        full.add_disk(VM, "root", IMAGE, 8)
        filler = small / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
        with pytest.raises(Temporary, match="pool small is full; make room"):
            full.add_disk(VM, "root", IMAGE, 1 << 26)
        filler.unlink()
        full.add_disk(VM, "root", IMAGE, 1 << 26)
        assert size_mib(full) == 1 << 26
    finally:
        subprocess.run(["umount", small], check=True)
