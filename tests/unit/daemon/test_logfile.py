"""Logs of daemons: every line is kept, but never more than the bound."""

import os
from pathlib import Path

from ucloud.daemon import logfile


def keep(file: Path, text: bytes, max_bytes: int = logfile.MAX_BYTES) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    assert os.write(writer, text) == len(text)
    os.close(writer)
    logfile.keep_lines(reader, logfile.bounded(file, max_bytes))


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    keep(file, "one 100% %s\nzwölf\n".encode() + b"\xff broken\nunfinished")
    assert file.read_text() == "one 100% %s\nzwölf\n\ufffd broken\nunfinished\n"
    assert logfile.last_lines(file, 2) == ["\ufffd broken", "unfinished"]
    assert logfile.last_lines(tmp_path / "none", 2) == []


def test_the_files_stay_within_their_bound(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    for number in range(100):
        keep(file, f"{number:099}\n".encode(), max_bytes=1000)
    files = list(tmp_path.iterdir())
    assert {path.name for path in files} == {"x.log", "x.log.1"}
    assert all(path.stat().st_size <= 1000 for path in files)
    assert logfile.last_lines(file, 1) == [f"{99:099}"]


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    keep(tmp_path / "x.log", b"x" * 40000)
    assert [len(line) for line in (tmp_path / "x.log").read_text().splitlines()] == [16384, 16384, 7232]
