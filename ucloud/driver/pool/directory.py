"""Images and disks as qcow2 files below one directory of a Linux machine, which several hosts may share.

    incoming/<image>            received, not yet examined; readable by root alone
    images/<image>.qcow2        published: never written to again; `<image>.json` beside it is what was found out
    disks/<vm>/<name>.qcow2     a clone, with its image as backing file; the directory goes with the last disk
    made/<vm>.<name>            that clone was complete once: if it is missing, it was lost, and is not cloned anew in silence

A file is made under a temporary name and gets its final one when it is complete and on disk. One under a temporary name that
nobody has written to for an hour belongs to a dead process: it is removed when a pool object is made. (If its writer lives
after all, it fails to find it, says so, and is asked again.) Formats are always told to qemu, never guessed by it.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ucloud.base.errors import Invalid, NoCapacity, Temporary
from ucloud.driver.pool import confine, header
from ucloud.driver.pool.contract import Examined
from ucloud.driver.pool.rules import check_growth, check_ids, check_upload
from ucloud.model.guest import GuestDisk

PART = ".part"
PART_LIFE_S = 3600.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EMPTY_DISK_BYTES = 1 << 20  # more than a fresh clone takes
EXAMINE = confine.Limits(cpu_s=10, wall_s=30, memory_mib=512, write_mib=1)


class Info(msgspec.Struct, frozen=True, rename="kebab"):
    """What `qemu-img info` prints, as far as it matters here."""

    format: str
    virtual_size: int
    backing_filename: str = ""
    encrypted: bool = False
    dirty_flag: bool = False
    snapshots: tuple[object, ...] = ()


class DirectoryPool:
    """`examine`: what looking at one image may cost."""

    def __init__(self, name: str, path: str | Path, examine: confine.Limits = EXAMINE) -> None:
        self.name = name
        self._examine = examine
        root = Path(path).absolute()
        self._incoming, self._images, self._disks = root / "incoming", root / "images", root / "disks"
        self._made = root / "made"
        with self._world():
            modes = {self._incoming: 0o700, self._images: 0o711, self._disks: 0o711, self._made: 0o700}
            for directory, mode in modes.items():
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(mode)  # 0711: a guest's own user opens what it was told the name of, and lists nothing
            self._sweep()

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str) -> None:
        check_ids(image)
        try:
            with new_file(self._incoming / image) as part, part.open("xb") as file:
                received, digest = 0, hashlib.sha256()
                for chunk in chunks:
                    received += len(chunk)
                    if received > size:
                        break
                    digest.update(chunk)
                    file.write(chunk)
                check_upload(received, size, digest.hexdigest(), sha256)
                os.fchmod(file.fileno(), 0o444)
        except OSError as error:
            if error.errno in FULL:
                raise NoCapacity(f"pool {self.name} is full") from error
            raise self._refusal(error) from error

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        check_ids(image)
        with self._world():
            examined = self._published(image) or self._publish(image, max_virtual_mib) or self._published(image)
            if not examined:
                raise Temporary(f"nothing of {image} is in pool {self.name}", retry_s=10)
            (self._incoming / image).unlink(missing_ok=True)
            return examined

    def images(self) -> frozenset[str]:
        with self._world():
            return frozenset(file.name.split(".")[0] for folder in (self._incoming, self._images) for file in folder.iterdir())

    def remove_image(self, image: str) -> None:
        check_ids(image)
        with self._world():
            remove(self._incoming, image)
            remove(self._images, f"{image}.qcow2")
            remove(self._images, f"{image}.json")

    def disks(self) -> Iterator[tuple[str, str]]:
        with self._world():
            files = [file for directory in self._disks.iterdir() for file in files_in(directory, ".qcow2")]
        return ((file.parent.name, file.stem) for file in sorted(files))

    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        check_ids(vm, name, image)
        disk, base, made = self._disk(vm, name), self._image(image), self._made / f"{vm}.{name}"
        with self._world():
            if disk.exists():
                made.touch()
                return
            if made.exists():
                raise Temporary(f"pool {self.name}: the disk {disk} is gone; put it back, or delete the VM", retry_s=10)
            if not base.exists():
                raise Temporary(f"pool {self.name}: the image {base} is gone; put it back, or delete the VM", retry_s=10)
            head, _ = read_head(base)
            check_growth(size_mib, -(-header.virtual_bytes(head) // header.MIB))
            disk.parent.mkdir(exist_ok=True)
            disk.parent.chmod(0o711)
            try:
                with new_file(disk) as part:
                    part.touch(0o600)
                    # -u: create does not open the image, which is a stranger's, as root.
                    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(part), f"{size_mib}M")
                made.touch()
            except BaseException as error:
                remove_if_empty(disk.parent)
                if isinstance(error, Temporary) and shutil.disk_usage(self._disks).free < EMPTY_DISK_BYTES:
                    raise Temporary(f"pool {self.name} is full; make room", retry_s=10) from error
                raise

    def remove_disk(self, vm: str, name: str) -> None:
        check_ids(vm, name)
        disk = self._disk(vm, name)
        with self._world():
            if not self._disks.is_dir():  # the disk may be there again tomorrow, with what is mounted here
                raise Temporary(f"pool {self.name} is not there: {self._disks} is missing", retry_s=10)
            remove(disk.parent, disk.name)
            remove_if_empty(disk.parent)
            (self._made / f"{vm}.{name}").unlink(missing_ok=True)

    def attachment(self, vm: str, name: str) -> GuestDisk:
        check_ids(vm, name)
        return GuestDisk(name=name, path=str(self._disk(vm, name)), format="qcow2")

    def _image(self, image: str) -> Path:
        return self._images / f"{image}.qcow2"

    def _note(self, image: str) -> Path:
        return self._images / f"{image}.json"

    def _disk(self, vm: str, name: str) -> Path:
        return self._disks / vm / f"{name}.qcow2"

    def _published(self, image: str) -> Examined | None:
        """The note is there before the image is."""
        if not self._image(image).exists():
            return None
        return msgspec.json.decode(self._note(image).read_bytes(), type=Examined)

    def _publish(self, image: str, max_virtual_mib: int) -> Examined | None:
        """None where nothing was received, or somebody else was faster."""
        received = self._incoming / image
        try:
            head, size = read_head(received)
        except FileNotFoundError:
            return None
        examined = header.examine(head, size, max_virtual_mib)
        self._ask_qemu(image, examined)
        with new_file(self._note(image)) as part:
            part.write_bytes(msgspec.json.encode(examined))
        if examined.format == "raw":
            self._convert(image, size)
        else:
            place(received, self._image(image))
        return examined

    def _ask_qemu(self, image: str, examined: Examined) -> None:
        """A second opinion: qemu itself has to see the same harmless file."""
        command = ["qemu-img", "info", "-f", examined.format, "--output", "json", confine.FILE]
        finished = confine.run(command, self._examine, self._incoming, image)
        if finished.killed:
            raise Invalid("the image takes too long to examine")
        if not finished.ok:
            raise Invalid(f"the image cannot be read: {finished.message}")
        try:
            info = msgspec.json.decode(finished.printed, type=Info)
        except msgspec.DecodeError as error:
            raise Invalid("the image cannot be described") from error
        suspect = info.backing_filename or info.encrypted or info.dirty_flag or info.snapshots
        if suspect or info.format != examined.format or -(-info.virtual_size // header.MIB) != examined.virtual_size_mib:
            raise Invalid("the image is not what its header says")

    def _convert(self, image: str, size: int) -> None:
        """Raw becomes qcow2, so that one kind of file is published. It may take as long as its size asks for."""
        gib = -(-size // (1024 * header.MIB))
        limits = confine.Limits(cpu_s=60 + 30 * gib, wall_s=120 + 120 * gib, memory_mib=1024, write_mib=64 + 1040 * gib)
        with new_file(self._image(image), self._incoming) as part:
            part.touch(0o600)
            os.chown(part, confine.UID, confine.UID)
            command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", confine.FILE, confine.OUTPUT]
            finished = confine.run(command, limits, self._incoming, image, part.name)
            if not finished.ok and shutil.disk_usage(self._images).free < size:
                raise NoCapacity(f"pool {self.name} is full; make room, and upload the image again")
            if not finished.ok:  # whatever is in a raw file, it can be copied
                raise Temporary(f"pool {self.name} cannot convert {image}: {finished.message}", retry_s=10)
            os.chown(part, 0, 0)
            part.chmod(0o444)

    def _sweep(self) -> None:
        """Other hosts make and remove disks meanwhile: what is young may be theirs, what is gone was."""
        for directory in (self._incoming, self._images, *self._disks.iterdir()):
            for file in files_in(directory, PART):
                with contextlib.suppress(FileNotFoundError):
                    if is_abandoned(file):
                        file.unlink()
        for directory in self._disks.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if is_abandoned(directory):
                    remove_if_empty(directory)

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        """What the operating system refuses is Temporary."""
        try:
            yield
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> Temporary:
        return Temporary(f"pool {self.name}: {error}", retry_s=10 if error.errno in FULL else 1)


@contextlib.contextmanager
def new_file(final: Path, directory: Path | None = None) -> Iterator[Path]:
    """A name to make a file under, in `directory` (default: where it will be). When all went well it appears as `final`,
    complete and on disk; else it is gone."""
    part = (directory or final.parent) / f"{final.name}.{secrets.token_hex(4)}{PART}"
    try:
        yield part
        sync(part)
        place(part, final)
    finally:
        part.unlink(missing_ok=True)


def place(file: Path, final: Path) -> None:
    """Give a complete file its final name too, for good: what stands there already is as good, and may be in use."""
    with contextlib.suppress(FileExistsError):
        final.hardlink_to(file)
    sync(final.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_head(path: Path) -> tuple[bytes, int]:
    """The first bytes of a regular file, and its size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid("the upload is not a file")
        return os.read(descriptor, header.BYTES), status.st_size
    finally:
        os.close(descriptor)


def files_in(directory: Path, suffix: str = "") -> list[Path]:
    """None in a directory that somebody has removed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [file for file in directory.iterdir() if file.name.endswith(suffix)]
    return []


def is_abandoned(file: Path) -> bool:
    """Nobody has written to it, or into it, for so long that its writer must be dead."""
    return time.time() - file.lstat().st_mtime > PART_LIFE_S


def remove(directory: Path, name: str) -> None:
    """A file, and what was begun of it under temporary names."""
    for file in files_in(directory):
        if file.name == name or (file.name.startswith(f"{name}.") and file.suffix == PART):
            file.unlink(missing_ok=True)


def remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise


def qemu_img(*arguments: str) -> None:
    try:
        done = subprocess.run(["qemu-img", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise Temporary(f"qemu-img {arguments[0]} takes longer than {error.timeout:.0f} s") from error
    if done.returncode != 0:
        raise Temporary(f"qemu-img {arguments[0]}: {done.stderr.strip()[-300:]}")
