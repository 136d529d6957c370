"""What is said beside results: once, in a line, and never in the way."""

import pytest

from ucloud import __version__
from ucloud.cli.notices import Notices


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("99.0.0", f"Note: the API is version 99.0.0, newer than this program ({__version__}): it can do more than"),
        ("0.0.9", f"Note: the API is version 0.0.9, older than this program ({__version__}): it may refuse what"),
        (__version__, ""),
        (f"{__version__}.1", ""),
        ("nonsense", ""),
        ("", ""),
        ("1" * 5000, ""),
        ("99.0.\x1b[31m", "Note: the API is version 99.0.�[31m, newer"),
    ],
)
def test_an_api_of_another_version(version: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    notices = Notices()
    notices.version(version)
    notices.version(version)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(words)
    assert said.err.count("\n") == (1 if words else 0)


def test_each_reason_to_wait_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    notices = Notices()
    for why in ("etcd does not answer", "etcd does not answer", "no answer for 2 s"):
        notices.silence(why)
    assert capsys.readouterr().err == "waiting for the API: etcd does not answer\nwaiting for the API: no answer for 2 s\n"
