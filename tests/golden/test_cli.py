"""Transcripts of the command line: what people type, and every word they read, in tests/golden/cli/*.txt.

Each line that begins with `$ ` is run against a real server; what follows must be what it says, stdout first, then the
errors. Ids, times and addresses are replaced by placeholders; progress is left out, as it depends on timing, and of wrong usage
all but the exit code. To write the files anew, after a change that is meant, run
UPDATE_GOLDEN=1 pytest tests/golden/test_cli.py, and read the difference.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.golden.served import served
from tests.unit.api.cloud import DATA
from tests.unit.api.pubkeys import KEYS
from ucloud.cli.main import main

TRANSCRIPTS = sorted((Path(__file__).parent / "cli").glob("*.txt"))
PROGRESS = re.compile(
    r"^asking for|^[0-9]+ of [0-9]+ done"
    r"|^[a-z0-9-]+: (computing|uploading|waiting|pending|placing|starting|running|stopping|deleting|stopped|gone)"
)

FILES = {
    "me": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    "me.pub": f"{KEYS[0]}\n",
    "alice.pub": KEYS[1],
    "third.pub": KEYS[2],
    "dsa.pub": "ssh-dss AAAAB3NzaC1kc3M= me",
    "setup.sh": "#!/bin/sh\necho hello\n",
}

VARYING = [
    (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
    (r"(-1)\.\d+\.([a-z]+)", r"\1.<revision>.\2"),
    (r"\bfd(?!12:)[0-9a-f:]+/64", "<prefix>"),
    (r"\b02(:[0-9a-f]{2}){5}\b", "<mac>"),
    (r"\b(2001:db8|fd[0-9a-f]{2}):[0-9a-f:]*ff:fe[0-9a-f:]+", "<address>"),
    (r"\b10\.1\.0\.[0-9]+\b(?!/)", "<ipv4>"),
    (r'(\bvni"?: +)[0-9]+', r"\1<vni>"),
    (r"(ADDRESS|IPV6|<address>|<ipv4>|<prefix>|/64| -)  +", r"\1  "),  # columns are as wide as what stands in them
]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("UCLOUD_API", "XDG_CONFIG_HOME", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.qcow2").write_bytes(DATA)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    with served() as api:
        yield api.url


def run(line: str, api: str) -> str:
    """What a person sees. A line that names an address itself is left as it is."""
    words = shlex.split(line.removeprefix("$ ucloud"))
    environment = {} if "--api" in words else {"UCLOUD_API": api}
    result = CliRunner().invoke(main, words, prog_name="ucloud", env=environment)
    is_usage = result.stderr.startswith("Usage:")  # click's own words, which differ between its versions
    errors = [text for text in result.stderr.splitlines(keepends=True) if not is_usage and not PROGRESS.match(text)]
    ending = f"[exit {result.exit_code}]\n" if result.exit_code else ""
    return result.stdout + "".join(errors) + ending


class Placeholders:
    """The first VM's id becomes vm-1, and so on."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def replace(self, text: str) -> str:
        text = re.sub(r"\b(vm|host|image|network|key)-[0-9a-hjkmnp-tv-z]{26}\b", self._id, text)
        for pattern, word in VARYING:
            text = re.sub(pattern, word, text)
        return text

    def _id(self, match: re.Match[str]) -> str:
        kind, id = match[1], match[0]
        number = 1 + sum(known.startswith(kind) for known in self._known)
        return self._known.setdefault(id, f"{kind}-{number}")


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript: Path, api: str) -> None:
    wanted = transcript.read_text(encoding="utf-8")
    placeholders, said = Placeholders(), ""
    for line in wanted.splitlines():
        if line.startswith("# "):
            said += ("\n" if said else "") + f"{line}\n"
        elif line.startswith("$ "):
            said += ("\n" if said else "") + f"{line}\n" + placeholders.replace(run(line, api))
    said = re.sub(r"\n{3,}", "\n\n", said)
    if os.environ.get("UPDATE_GOLDEN"):
        transcript.write_text(said, encoding="utf-8")
    assert said == wanted
