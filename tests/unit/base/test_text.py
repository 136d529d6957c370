"""Text from outside."""

import logging

import pytest

from ucloud.base.log import Text
from ucloud.base.text import one_line, visible


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (" no  such\n1\t", "no such 1"),
        ("\x1b[2Jgone\u202e\x9b", "[2Jgone"),
        ("ä" * 10, "ä" * 10),
        ("ä" * 11, "ä" * 9 + "…"),
        ("\n" * 100, "…"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text, longest=10) == line


def test_a_name_cannot_write_a_second_line_into_a_log() -> None:
    record = logging.makeLogRecord({"msg": "GET %s failed", "args": ("/v1/\n2026 error\x1b[1m",), "name": "a"})
    assert Text().format(record).endswith(r"GET /v1/\n2026 error\x1b[1m failed")
    assert visible("plain ä") == "plain ä"
