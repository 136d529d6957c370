"""Keeps what daemons write to stderr in files of bounded size: NAME.log, and NAME.log.1 with what came before."""

import logging
import os
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 4 << 20
LONGEST_LINE = 16384


def bounded(file: Path, max_bytes: int = MAX_BYTES) -> RotatingFileHandler:
    return RotatingFileHandler(file, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="replace")


def pipe_to(file: Path) -> int:
    """A descriptor for a daemon's stderr: what is written to it arrives in `file`. It serves each restart of the daemon."""
    reader, writer = os.pipe()
    threading.Thread(target=keep_lines, args=(reader, bounded(file)), daemon=True).start()
    return writer


def keep_lines(reader: int, handler: RotatingFileHandler) -> None:
    with open(reader, encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(LONGEST_LINE):
            handler.emit(logging.makeLogRecord({"msg": line.rstrip("\n")}))


def last_lines(file: Path, number: int) -> list[str]:
    try:
        with file.open("rb") as lines:
            lines.seek(max(0, file.stat().st_size - number * 1024))
            return lines.read().decode(errors="replace").splitlines()[-number:]
    except FileNotFoundError:
        return []
