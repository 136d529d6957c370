"""Images and disks as qcow2 files below one directory of a Linux machine, which several hosts may share.

    ucloud-pool                 the name of the pool: without this file the file system that holds it is not mounted
    incoming/<image>            received, not yet examined; readable by root alone. `<image>.part`: on its way (`upload`)
    images/<image>.qcow2        published: never written to again; `<image>.json` beside it is what was found out.
                                A clone is another link to the same file
    disks/<vm>/<name>.qcow2     a clone, with its image as backing file; the directory goes with the last disk
    made/<vm>.<name>            that clone was complete once: if it is missing, it was lost, and is not cloned anew in silence

A file is made under a temporary name and gets its final one when it is complete and on disk. One under a temporary name that
nobody has written to for an hour (an upload: for a day) belongs to a dead process: it is removed when a pool object is made.
(If its writer lives after all, it fails to find it, says so, and is asked again.) Formats are always told to qemu, never
guessed by it.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ucloud.base.errors import Invalid, Temporary
from ucloud.driver.pool import confine, header, upload
from ucloud.driver.pool.contract import Examined, Progress
from ucloud.driver.pool.files import FULL, PART, files_in, is_abandoned, new_file, place, remove, remove_if_empty
from ucloud.driver.pool.growth import grow
from ucloud.driver.pool.header import read_head
from ucloud.driver.pool.rules import check_growth, check_ids, no_room
from ucloud.model.guest import GuestDisk

MARKER = "ucloud-pool"
PART_LIFE_S = 3600.0
UPLOAD_LIFE_S = 25 * 3600.0  # longer than the image loop waits for it
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
        self._root = root = Path(path).absolute()
        self._incoming, self._images, self._disks = root / "incoming", root / "images", root / "disks"
        self._made = root / "made"
        if (root / MARKER).exists():
            with self._world():
                self._sweep()

    def prepare(self) -> None:
        marker, modes = self._root / MARKER, {self._incoming: 0o700, self._images: 0o711, self._disks: 0o711, self._made: 0o700}
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if not marker.exists() and any(self._root.iterdir()):
                raise Invalid(f"{self._root} is not empty, and no pool", {"path": "is not empty"})
            for directory, mode in modes.items():
                directory.mkdir(exist_ok=True)
                directory.chmod(mode)  # 0711: a guest's own user opens what it was told the name of, and lists nothing
            if not marker.exists():
                with new_file(marker) as part:
                    part.write_text(f"{self.name}\n")
        except OSError as error:
            raise Invalid(f"{self._root} cannot be a pool: {error.strerror}", {"path": "cannot be a pool"}) from error
        with self._world():
            pass

    def free_bytes(self) -> int:
        with self._world():
            return shutil.disk_usage(self._root).free

    def receive(self, image: str, chunks: Iterable[bytes], size: int, sha256: str, start: int = 0) -> None:
        check_ids(image)
        free = self.free_bytes()
        if free < size - start:
            raise no_room(self.name, size - start, free)
        try:
            upload.receive(self._incoming / image, chunks, size, sha256, start)
        except OSError as error:
            if error.errno in FULL:
                raise no_room(self.name, size - start, self.free_bytes()) from error
            raise self._refusal(error) from error

    def progress(self, image: str) -> Progress:
        check_ids(image)
        with self._world():
            statuses = {file.name: file.lstat() for file in files_in(self._incoming) if file.name.split(".")[0] == image}
        made = [status for name, status in statuses.items() if name.startswith(f"{image}.qcow2.")]
        received = [status for name, status in statuses.items() if name in (image, f"{image}{PART}")]
        written_s = max((status.st_mtime for status in statuses.values()), default=0)
        return Progress(
            received_bytes=max((status.st_size for status in received), default=0),
            made_bytes=max((status.st_blocks * 512 for status in made), default=0),
            idle_s=max(0.0, time.time() - written_s) if statuses else 0,
        )

    def publish(self, image: str, max_virtual_mib: int) -> Examined:
        check_ids(image)
        with self._world():
            examined = self._published(image) or self._publish(image, max_virtual_mib) or self._published(image)
            if not examined:
                raise Temporary(f"nothing of {image} is in pool {self.name}", retry_s=10)
            (self._incoming / image).unlink(missing_ok=True)
            return examined

    def clone_image(self, source: str, image: str) -> Examined:
        check_ids(source, image)
        with self._world():
            try:
                place(self._note(source), self._note(image))
                place(self._image(source), self._image(image))
            except FileNotFoundError:
                raise Temporary(f"pool {self.name}: the image {self._image(source)} is gone; put it back", retry_s=10) from None
            return msgspec.json.decode(self._note(image).read_bytes(), type=Examined)

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
                with self._says_if_full():
                    grow(disk, size_mib)
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
                with self._says_if_full(), new_file(disk) as part:
                    part.touch(0o600)
                    # -u: create does not open the image, which is a stranger's, as root.
                    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(part), f"{size_mib}M")
                made.touch()
            except BaseException:
                remove_if_empty(disk.parent)
                raise

    def remove_disk(self, vm: str, name: str) -> None:
        check_ids(vm, name)
        disk = self._disk(vm, name)
        with self._world():
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
        free = self.free_bytes()
        with new_file(self._image(image), self._incoming) as part:
            part.touch(0o600)
            os.chown(part, confine.UID, confine.UID)
            command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", confine.FILE, confine.OUTPUT]
            finished = confine.run(command, limits, self._incoming, image, part.name)
            if not finished.ok and self.free_bytes() < size:
                raise no_room(self.name, size, free)
            if not finished.ok:  # whatever is in a raw file, it can be copied
                raise Temporary(f"pool {self.name} cannot convert {image}: {finished.message}", retry_s=10)
            os.chown(part, 0, 0)
            part.chmod(0o444)

    def _sweep(self) -> None:
        """Other hosts make and remove disks meanwhile: what is young may be theirs, what is gone was."""
        for directory in (self._incoming, self._images, *self._disks.iterdir()):
            for file in files_in(directory, PART):
                with contextlib.suppress(FileNotFoundError):
                    if is_abandoned(file, UPLOAD_LIFE_S if directory == self._incoming else PART_LIFE_S):
                        file.unlink()
        for directory in self._disks.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if is_abandoned(directory, PART_LIFE_S):
                    remove_if_empty(directory)

    @contextlib.contextmanager
    def _says_if_full(self) -> Iterator[None]:
        try:
            yield
        except Temporary as error:
            if shutil.disk_usage(self._disks).free < EMPTY_DISK_BYTES:
                raise Temporary(f"pool {self.name} is full; make room", retry_s=10) from error
            raise

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        """What the operating system refuses is Temporary; and that the pool is not there: it may be tomorrow, with what is
        mounted here."""
        marker = self._root / MARKER
        try:
            name = marker.read_text().strip() if marker.exists() else ""
            if name != self.name:
                here = f"the pool {name} is mounted there" if name else f"is it mounted? ({marker} is missing)"
                raise Temporary(f"pool {self.name} is not at {self._root}: {here}", retry_s=10)
            yield
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> Temporary:
        return Temporary(f"pool {self.name}: {error}", retry_s=10 if error.errno in FULL else 1)


def qemu_img(*arguments: str) -> None:
    try:
        done = subprocess.run(["qemu-img", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise Temporary(f"qemu-img {arguments[0]} takes longer than {error.timeout:.0f} s") from error
    if done.returncode != 0:
        raise Temporary(f"qemu-img {arguments[0]}: {done.stderr.strip()[-300:]}")
