"""The example in the README runs."""

import os
import subprocess
import sys
from pathlib import Path

from tests.golden.served import served

EXAMPLE = Path(__file__).parents[3] / "examples" / "three_vms.py"


def run(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "UCLOUD_API": url}
    return subprocess.run([sys.executable, EXAMPLE, *arguments], capture_output=True, text=True, env=environment, timeout=120)


def test_the_example_makes_three_vms_and_leaves_none() -> None:
    with served() as api:
        done = run(api.url, "tiny")
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[:3] == ["three-1 runs", "three-2 runs", "three-3 runs"]
        assert lines[3] == "three-1 is running on h1, because it had the most free memory"
        assert lines[-1] == "all are gone"
        assert not api.cloud.store.list("vm/").items

        done = run(api.url, "nope")
        assert (done.returncode, done.stderr) == (1, "image: there is no image 'nope'\n")
    assert run("http://[::1]:1", "tiny").stderr == "the API does not answer\n"
