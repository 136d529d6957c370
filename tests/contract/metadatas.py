"""What guests are told of themselves, as files, for the contract tests: on a file system that can be filled up."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace
from things import Action, Subject

from tests.unit.metadata.told import told
from ucloud.driver.metadata.files import MetadataFiles

ONE, OTHER = told(1, user_data=b"#!/bin/sh\n\xff\x00"), told(2, 0xFFFFFF)


@contextmanager
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="uct-") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", directory], check=True, timeout=60)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True, timeout=60)


@contextmanager
def metadata() -> Iterator[Subject]:
    with small_disk() as disk:
        directory = disk / "metadata"
        file, others = directory / "1-vm-1", directory / "16777215-vm-2"

        def fill() -> Action:
            with (disk / "much").open("wb", buffering=0) as much:
                while much.tell() < 1 << 20:
                    try:
                        much.write(bytes(4096))
                    except OSError:
                        return (disk / "much").unlink
            raise AssertionError("this disk is larger than it should be")

        yield Subject(
            make=lambda: MetadataFiles(directory),
            one=ONE,
            changed=replace(ONE, user_data=b"", keys=(), custom={"role": "web"}),
            other=OTHER,
            refuse=fill,
            damages={
                "no file": file.unlink,
                "nothing in it": lambda: file.write_bytes(b""),
                "half of it": lambda: file.write_bytes(file.read_bytes()[:100]),
                "another's": lambda: file.write_bytes(others.read_bytes() if others.exists() else b"{}"),
                "open to all": lambda: file.chmod(0o644),
            },
            strays={
                "a file": lambda: (directory / "1-vm-9").write_bytes(b"{}"),
                "begun": lambda: (directory / ".1-vm-9").write_bytes(b"{"),
                "of another name": lambda: (directory / "passwords").write_bytes(b"x"),
                "another's": lambda: (directory / "2-vm-1").write_bytes(file.read_bytes()),
            },
        )
