"""The contract of pools, on each of them; then what only a directory can do wrong."""

import hashlib
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ucloud.base.errors import Conflict, Invalid, NoCapacity, Temporary
from ucloud.driver.pool.contract import Examined, Pool, Progress
from ucloud.driver.pool.directory import DirectoryPool
from ucloud.driver.pool.fake import FakePool
from ucloud.driver.pool.hollow import HollowPool

IMAGE = "image-01kd2g5x8p6q0v3n9r7t4w1y2z"
CLONE = "image-01kd2g5x8p6q0v3n9r7t4w1y30"
VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
HOSTILE = ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b", "a\n", "json:{}", "-o", "ä", "x" * 300, "A"]
RAW = bytes(510) + b"\x55\xaa" + bytes(3 * 1024 * 1024 - 512)


@pytest.fixture(params=["fake", "directory", "hollow"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Pool:
    if request.param == "fake":
        return FakePool()
    kind = HollowPool if request.param == "hollow" else DirectoryPool
    return prepared(kind("local", tmp_path / "pool"))


def prepared(pool: DirectoryPool) -> DirectoryPool:
    pool.prepare()
    return pool


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryPool:
    return prepared(DirectoryPool("local", tmp_path / "pool"))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., bytes]:
    """The bytes of an image made by qemu-img: make("qcow2", "-b", …, size="8M")."""

    def make(format: str, *options: str, size: str = "8M") -> bytes:
        file = tmp_path / "made"
        subprocess.run(["qemu-img", "create", "-q", "-f", format, *options, str(file), size], check=True)
        return file.read_bytes()

    return make


def receive(pool: Pool, content: bytes, image: str = IMAGE) -> None:
    pool.receive(image, [content[at : at + 65536] for at in range(0, len(content), 65536)], len(content), sha256(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed(content: bytes, at: int, layout: str, value: int) -> bytes:
    field = struct.pack(layout, value)
    return content[:at] + field + content[at + len(field) :]


def files(root: Path) -> set[str]:
    """But for the one that says that it is a pool."""
    return {str(file.relative_to(root)) for file in root.rglob("*") if not file.is_dir()} - {"ucloud-pool"}


def test_life_of_an_image_and_its_disks(pool: Pool, make: Callable[..., bytes]) -> None:
    receive(pool, make("qcow2"))
    assert pool.images() == {IMAGE}
    assert pool.publish(IMAGE, 8) == Examined("qcow2", 8)
    assert pool.publish(IMAGE, 8) == Examined("qcow2", 8)
    pool.add_disk(VM, "root", IMAGE, 20)
    pool.add_disk(VM, "root", IMAGE, 20)
    pool.add_disk(VM, "more", IMAGE, 8)
    assert sorted(pool.disks()) == [(VM, "more"), (VM, "root")]
    assert pool.attachment(VM, "root").format == "qcow2"
    for _ in range(2):
        pool.remove_disk(VM, "root")
        pool.remove_disk(VM, "more")
        pool.remove_image(IMAGE)
    assert not list(pool.disks())
    assert not pool.images()


def test_raw_disk_is_accepted_and_says_so_again(pool: Pool) -> None:
    receive(pool, RAW)
    assert [pool.publish(IMAGE, 100) for _ in range(2)] == [Examined("raw", 3)] * 2


@pytest.mark.parametrize(("size", "checksum", "field"), [(-1, 0, "bytes"), (0, 1, "sha256")], ids=["long", "wrong sum"])
def test_wrong_upload_is_refused_and_leaves_nothing(pool: Pool, size: int, checksum: int, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        pool.receive(IMAGE, [RAW], len(RAW) + size, sha256(RAW + b"x" * checksum))
    assert field in refused.value.details
    assert not pool.images()
    with pytest.raises(Temporary):
        pool.publish(IMAGE, 100)


@pytest.mark.parametrize("how", ["cut short", "reset"])
def test_upload_that_breaks_off_is_gone_on_with(pool: Pool, how: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield RAW[:1000]
        if how == "reset":
            raise ConnectionResetError("the client is gone")

    assert pool.progress(IMAGE) == Progress()
    with pytest.raises((ConnectionResetError, Temporary) if how == "reset" else Invalid):
        pool.receive(IMAGE, chunks(), len(RAW), sha256(RAW))
    assert pool.progress(IMAGE).received_bytes == 1000
    with pytest.raises(Temporary):
        pool.publish(IMAGE, 100)
    with pytest.raises(Conflict) as refused:
        pool.receive(IMAGE, [RAW[1001:]], len(RAW), sha256(RAW), start=1001)
    assert refused.value.details == {"received_bytes": 1000}
    pool.receive(IMAGE, [RAW[600:]], len(RAW), sha256(RAW), start=600)
    assert pool.progress(IMAGE).received_bytes == len(RAW)
    assert pool.publish(IMAGE, 100) == Examined("raw", 3)


def test_upload_may_begin_anew_and_be_repeated(pool: Pool) -> None:
    with pytest.raises(Invalid):
        pool.receive(IMAGE, [b"x" * 1000], len(RAW), sha256(RAW))
    for _ in range(2):
        receive(pool, RAW)
    assert pool.publish(IMAGE, 100) == Examined("raw", 3)


def test_what_went_on_wrongly_leaves_nothing(pool: Pool) -> None:
    with pytest.raises(Invalid):
        pool.receive(IMAGE, [b"x" * 1000], len(RAW), sha256(RAW))
    with pytest.raises(Invalid) as refused:
        pool.receive(IMAGE, [RAW[1000:]], len(RAW), sha256(RAW), start=1000)
    assert "sha256" in refused.value.details
    assert not pool.images()


def test_half_an_upload_can_be_removed(pool: Pool) -> None:
    with pytest.raises(Invalid):
        pool.receive(IMAGE, [RAW[:1000]], len(RAW), sha256(RAW))
    assert pool.images() == {IMAGE}
    pool.remove_image(IMAGE)
    assert not pool.images()
    assert pool.progress(IMAGE) == Progress()


def test_clone_of_an_image_needs_it_no_more(pool: Pool, make: Callable[..., bytes]) -> None:
    with pytest.raises(Temporary):
        pool.clone_image(IMAGE, CLONE)
    receive(pool, make("qcow2"))
    with pytest.raises(Temporary):
        pool.clone_image(IMAGE, CLONE)
    pool.publish(IMAGE, 8)
    assert [pool.clone_image(IMAGE, CLONE) for _ in range(2)] == [Examined("qcow2", 8)] * 2
    assert pool.images() == {IMAGE, CLONE}
    pool.remove_image(IMAGE)
    pool.add_disk(VM, "root", CLONE, 20)
    assert pool.clone_image(CLONE, IMAGE) == Examined("qcow2", 8)
    for image in (IMAGE, CLONE):
        pool.remove_image(image)
    assert not pool.images()


HARMFUL: dict[str, Callable[[Callable[..., bytes]], bytes]] = {
    "backing file": lambda make: make("qcow2", "-u", "-F", "raw", "-b", "/etc/passwd"),
    "backing json": lambda make: make("qcow2", "-u", "-F", "raw", "-b", 'json:{"driver":"file","filename":"/etc/shadow"}'),
    "data file": lambda make: changed(make("qcow2"), 72, ">Q", 4),
    "encrypted": lambda make: changed(make("qcow2"), 32, ">I", 2),
    "snapshots": lambda make: changed(make("qcow2"), 60, ">I", 1),
    "dirty": lambda make: changed(make("qcow2"), 72, ">Q", 1),
    "corrupt": lambda make: changed(make("qcow2"), 72, ">Q", 2),
    "unknown feature": lambda make: changed(make("qcow2"), 72, ">Q", 1 << 40),
    "bitmaps": lambda make: changed(make("qcow2"), 88, ">Q", 1),
    "version 9": lambda make: changed(make("qcow2"), 4, ">I", 9),
    "huge L1 table": lambda make: changed(make("qcow2"), 36, ">I", 1 << 30),
    "huge virtually": lambda make: make("qcow2", size="20T"),
    "no size": lambda make: changed(make("qcow2"), 24, ">Q", 0),
    "only a header": lambda make: make("qcow2")[:104],
    "vmdk": lambda make: make("vmdk"),
    "vhdx": lambda make: make("vhdx"),
    "vdi": lambda make: make("vdi"),
    "garbage": lambda make: b"garbage!" * 1000,
    "empty": lambda make: b"",
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_harmful_image_is_refused_each_time(pool: Pool, make: Callable[..., bytes], harm: str) -> None:
    receive(pool, HARMFUL[harm](make))
    for _ in range(2):
        with pytest.raises(Invalid):
            pool.publish(IMAGE, 1024)
    with pytest.raises(Temporary):
        pool.add_disk(VM, "root", IMAGE, 2048)
    assert pool.images() == {IMAGE}
    pool.remove_image(IMAGE)
    assert not pool.images()


def test_disk_is_never_smaller_than_its_image(pool: Pool, make: Callable[..., bytes]) -> None:
    receive(pool, make("qcow2", size=str(8 * 1024 * 1024 + 512)))
    assert pool.publish(IMAGE, 9).virtual_size_mib == 9
    with pytest.raises(Invalid):
        pool.add_disk(VM, "root", IMAGE, 8)
    assert not list(pool.disks())
    pool.add_disk(VM, "root", IMAGE, 9)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_ids_are_refused(pool: Pool, hostile: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: pool.receive(hostile, [b""], 0, sha256(b"")),
        lambda: pool.publish(hostile, 1),
        lambda: pool.progress(hostile),
        lambda: pool.clone_image(hostile, CLONE),
        lambda: pool.clone_image(IMAGE, hostile),
        lambda: pool.remove_image(hostile),
        lambda: pool.add_disk(hostile, "root", IMAGE, 1),
        lambda: pool.add_disk(VM, hostile, IMAGE, 1),
        lambda: pool.add_disk(VM, "root", hostile, 1),
        lambda: pool.remove_disk(hostile, "root"),
        lambda: pool.remove_disk(VM, hostile),
        lambda: pool.attachment(hostile, "root"),
        lambda: pool.attachment(VM, hostile),
    ]
    for call in calls:
        with pytest.raises(Invalid):
            call()


def test_two_publishes_at_once_agree(pool: Pool) -> None:
    receive(pool, RAW)
    found: list[Examined] = []

    def publish() -> None:
        while True:
            try:
                return found.append(pool.publish(IMAGE, 10))
            except Temporary:
                pass

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [Examined("raw", 3)] * 2


def test_fake_fails_before_or_after_it_acted() -> None:
    fake = FakePool(capacity_bytes=100)
    with pytest.raises(NoCapacity):
        receive(fake, RAW)
    fake.preload(IMAGE, 5)
    fake.fail_next("add_disk")
    with pytest.raises(Temporary):
        fake.add_disk(VM, "root", IMAGE, 5)
    assert not list(fake.disks())
    fake.fail_next("add_disk", after=True)
    with pytest.raises(Temporary):
        fake.add_disk(VM, "root", IMAGE, 5)
    assert list(fake.disks()) == [(VM, "root")]


def test_files_belong_to_root_and_images_are_read_only(
    directory: DirectoryPool, make: Callable[..., bytes], tmp_path: Path
) -> None:
    receive(directory, make("qcow2"))
    directory.publish(IMAGE, 8)
    receive(directory, RAW, "raw")
    directory.publish("raw", 8)
    directory.add_disk(VM, "root", "raw", 20)
    modes = {file: stat.S_IMODE((tmp_path / "pool" / file).stat().st_mode) for file in files(tmp_path / "pool")}
    disk = f"disks/{VM}/root.qcow2"
    assert stat.S_IMODE((tmp_path / "pool/made").stat().st_mode) == 0o700
    assert {file: mode for file, mode in modes.items() if not file.endswith(".json") and not file.startswith("made/")} == {
        f"images/{IMAGE}.qcow2": 0o444,
        "images/raw.qcow2": 0o444,
        disk: 0o600,
    }
    assert all((tmp_path / "pool" / file).stat().st_uid == 0 for file in modes)
    described = subprocess.run(
        ["qemu-img", "info", tmp_path / "pool" / disk], check=True, capture_output=True, text=True
    ).stdout
    assert "virtual size: 20 MiB" in described
    assert f"backing file: {tmp_path}/pool/images/raw.qcow2" in described
    assert "backing file format: qcow2" in described


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory"])
def test_what_is_no_file_is_refused(directory: DirectoryPool, tmp_path: Path, kind: str) -> None:
    received = tmp_path / "pool/incoming" / IMAGE
    {"fifo": os.mkfifo, "symlink": lambda path: path.symlink_to("/etc/passwd"), "directory": os.mkdir}[kind](received)
    with pytest.raises((Invalid, Temporary)):
        directory.publish(IMAGE, 8)
    assert not files(tmp_path / "pool/images")


def test_full_disk_refuses_and_keeps_nothing(tmp_path: Path, make: Callable[..., bytes]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    try:
        full = prepared(DirectoryPool("small", small))
        with pytest.raises(NoCapacity):
            receive(full, RAW)
        assert not files(small)
        receive(full, make("qcow2"))
        full.publish(IMAGE, 8)
        before = files(small)
        subprocess.run(["dd", "if=/dev/zero", f"of={small / 'filler'}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
        with pytest.raises(Temporary, match="pool small is full"):
            full.add_disk(VM, "root", IMAGE, 8)
        assert files(small) == before | {"filler"}
        assert not list((small / "disks").iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


def test_raw_image_waits_for_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "none", small], check=True)
    try:
        full = prepared(DirectoryPool("small", small))
        receive(full, RAW[:512] + os.urandom(len(RAW) - 512))
        for _ in range(2):
            with pytest.raises(NoCapacity, match="pool small is full: 3 MiB are needed, 1 MiB are free"):
                full.publish(IMAGE, 8)
            assert not [name for name in files(small) if name.startswith("images/") and not name.endswith(".json")]
        subprocess.run(["mount", "-o", "remount,size=9m", small], check=True)
        assert full.publish(IMAGE, 8) == Examined("raw", 3)
    finally:
        subprocess.run(["umount", small], check=True)


def test_upload_for_which_there_is_no_room_is_refused_at_once(directory: DirectoryPool) -> None:
    with pytest.raises(NoCapacity, match="1048576 MiB are needed"):
        directory.receive(IMAGE, iter([]), 1 << 40, "0" * 64)
    assert not directory.images()


def test_pool_that_is_not_mounted_is_not_taken_for_an_empty_one(directory: DirectoryPool, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "pool", tmp_path / "elsewhere"
    receive(directory, RAW)
    root.rename(elsewhere)
    calls: list[Callable[[], object]] = [
        directory.images,
        directory.disks,
        lambda: directory.publish(IMAGE, 8),
        lambda: directory.remove_image(IMAGE),
        lambda: directory.progress(IMAGE),
        lambda: directory.clone_image(IMAGE, CLONE),
        lambda: directory.add_disk(VM, "root", IMAGE, 8),
        lambda: directory.remove_disk(VM, "root"),
        lambda: receive(directory, RAW),
        lambda: DirectoryPool("local", root).images(),
    ]
    for mount_point in (False, True):
        if mount_point:
            root.mkdir()
        for call in calls:
            with pytest.raises(Temporary, match="is it mounted"):
                call()
    assert not files(root)
    prepared(DirectoryPool("other", elsewhere / "other"))
    with pytest.raises(Temporary, match="the pool other is mounted there"):
        DirectoryPool("local", elsewhere / "other").images()
    root.rmdir()
    elsewhere.rename(root)
    assert directory.publish(IMAGE, 8) == Examined("raw", 3)


def test_only_an_empty_directory_becomes_a_pool(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Invalid) as refused:
            DirectoryPool("local", path).prepare()
        assert list(refused.value.details) == ["path"]
    pool = DirectoryPool("local", tmp_path / "a" / "b")
    for _ in range(2):
        pool.prepare()
    assert not pool.images()


def test_one_upload_at_a_time(directory: DirectoryPool) -> None:
    tried = False

    def chunks() -> Iterator[bytes]:
        nonlocal tried
        yield RAW[:1000]
        with pytest.raises(Temporary, match="somebody else is uploading it"):
            receive(directory, RAW)
        tried = True
        yield RAW[1000:]

    directory.receive(IMAGE, chunks(), len(RAW), sha256(RAW))
    assert tried
    assert directory.publish(IMAGE, 8) == Examined("raw", 3)


def test_lost_files_are_said_and_not_made_anew(directory: DirectoryPool, tmp_path: Path) -> None:
    root = tmp_path / "pool"
    receive(directory, RAW)
    directory.publish(IMAGE, 8)
    directory.add_disk(VM, "root", IMAGE, 8)
    for lost in (root / "disks" / VM / "root.qcow2", root / "images" / f"{IMAGE}.qcow2"):
        lost.unlink()
        with pytest.raises(Temporary, match=rf"{lost} is gone"):
            directory.add_disk(VM, "root", IMAGE, 8)
        directory.remove_disk(VM, "root")


def test_killed_upload_leaves_nothing_under_a_final_name(tmp_path: Path) -> None:
    script = """
import sys
from ucloud.driver.pool.directory import DirectoryPool
def chunks():
    yield b"x" * 1000000
    print("writing", flush=True)
    sys.stdin.read()
pool = DirectoryPool("local", sys.argv[1])
pool.prepare()
pool.receive(sys.argv[2], chunks(), 2000000, "")
"""
    root = tmp_path / "pool"
    python = subprocess.Popen([sys.executable, "-c", script, str(root), IMAGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert python.stdout
    assert python.stdin
    with python:
        assert python.stdout.readline() == b"writing\n"
        python.kill()
    left = f"incoming/{IMAGE}.part"
    assert files(root) == {left}

    again = DirectoryPool("local", root)
    assert files(root) == {left}, "it can be gone on with"
    with pytest.raises(Temporary):
        again.publish(IMAGE, 8)
    for age_h, there in ((2, {left}), (26, set())):
        written_s = time.time() - age_h * 3600
        os.utime(root / left, (written_s, written_s))
        DirectoryPool("local", root)
        assert files(root) == there


def test_removing_takes_along_what_was_begun(directory: DirectoryPool, tmp_path: Path) -> None:
    root = tmp_path / "pool"
    (root / "disks" / VM).mkdir()
    for begun in (
        f"incoming/{IMAGE}.part",
        f"incoming/{IMAGE}.qcow2.1f.part",
        f"images/{IMAGE}.json.1f.part",
        f"disks/{VM}/root.qcow2.1f.part",
    ):
        (root / begun).write_bytes(b"x")
    directory.remove_image(IMAGE)
    directory.remove_disk(VM, "root")
    assert not files(root)
    assert not list((root / "disks").iterdir())


def test_a_directory_that_another_host_has_just_made_stays(tmp_path: Path, directory: DirectoryPool) -> None:
    young, old = (tmp_path / "pool" / "disks" / name for name in (VM, f"{VM[:-1]}a"))
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    DirectoryPool("local", str(tmp_path / "pool"))
    assert young.exists()
    assert not old.exists()


def test_hosts_make_and_remove_disks_while_another_looks(
    tmp_path: Path, directory: DirectoryPool, make: Callable[..., bytes]
) -> None:
    receive(directory, make("qcow2"))
    directory.publish(IMAGE, 8)
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            list(DirectoryPool("local", str(tmp_path / "pool")).disks())

    with ThreadPoolExecutor(2) as workers:
        looking = [workers.submit(look) for _ in range(2)]
        try:
            hollow = HollowPool("local", str(tmp_path / "pool"))
            for _ in range(200):
                hollow.add_disk(VM, "root", IMAGE, 8)
                hollow.remove_disk(VM, "root")
        finally:
            ended.set()
        for work in looking:
            work.result()
