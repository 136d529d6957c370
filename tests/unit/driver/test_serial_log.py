"""The serial log in the hands of a qemu that its guest has taken over: it may do anything to the file, and harms only that."""

import ctypes
import os
from pathlib import Path

import pytest

from ucloud.driver.hypervisor.contract import Log
from ucloud.driver.hypervisor.serial_log import TRIM_BYTES, SerialLog

KEEP_SIZE = 1


@pytest.fixture
def log(tmp_path: Path) -> SerialLog:
    return SerialLog(tmp_path)


def test_room_that_was_taken_beyond_the_end_is_given_back(log: SerialLog, tmp_path: Path) -> None:
    with log.open() as file:
        taken = ctypes.CDLL(None).fallocate(file.fileno(), KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(2 * TRIM_BYTES))
        assert taken == 0
        log.trim()
        assert os.fstat(file.fileno()).st_blocks == 0


def test_a_log_that_ends_in_nothing_is_empty(log: SerialLog) -> None:
    with log.open() as file:
        file.write(b"hello")
        file.truncate(1 << 40)
        assert log.read(-100, 100) == Log(b"", 1 << 40)
        log.trim()
