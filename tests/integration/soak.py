"""Rounds without end: `python -m tests.integration.soak SECONDS [--seed N] [--lab | --guests] [--stories]`, for script/soak."""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.counting import counting_cloud, etcd_members_fail
from tests.e2e.counting import play as play_with_guests
from tests.integration.lab_cloud import breakable_lab
from tests.integration.plain import breakable_plain
from tests.integration.rounds import Rounds
from tests.integration.stories import STORIES

Say = Callable[[str], None]
TINY_IMAGE = Path(__file__).parents[2] / "script" / "tiny-image"
ETCD_ROUNDS = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.soak")
    parser.add_argument("seconds", type=float, help="for about how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first round")
    parser.add_argument("--lab", action="store_true", help="on a cloud by `ucloud up`, whose hosts lose power and cables too")
    parser.add_argument("--guests", action="store_true", help="on such a cloud with real guests, whose disks are checked")
    parser.add_argument("--stories", action="store_true", help="first those that take minutes")
    options = parser.parse_args()
    start_s, seed = time.monotonic(), options.seed
    directory = Path(tempfile.mkdtemp(prefix="ucloud-soak-"))

    def say(text: str) -> None:
        print(f"{time.monotonic() - start_s:7.1f} s: {text}", flush=True)

    try:
        if options.stories and not options.guests:
            with breakable_plain(directory / "stories") as plain:
                told = Rounds(plain, say)  # one for all: names of VMs that an earlier story left are taken
                for story in STORIES:
                    say(story.__name__.replace("_", " "))
                    story(told)
        kind = partial(guests, stories=options.stories) if options.guests else partial(pretended, lab=options.lab)
        with kind(directory, say) as play:
            while time.monotonic() < start_s + options.seconds:
                play(seed)
                seed += 1
    except Exception:  # a daemon that does not end, say, is as good a finding as what the checker finds
        print(f"FOUND in round {seed}, logs are in {directory}:\n{traceback.format_exc()}", flush=True)
        return 1
    shutil.rmtree(directory)
    print(f"rounds {options.seed} to {seed - 1}: nothing found", flush=True)
    return 0


@contextmanager
def pretended(directory: Path, say: Say, *, lab: bool) -> Iterator[Callable[[int], None]]:
    """What plays a round, with people."""
    with breakable_lab("s", directory / "log") if lab else breakable_plain(directory / "rounds") as breakable:
        rounds: Rounds[Any] = Rounds(breakable, say)
        yield rounds.play


@contextmanager
def guests(directory: Path, say: Say, *, stories: bool) -> Iterator[Callable[[int], None]]:
    """Likewise. stories: first members of etcd fail, which no guest may notice."""
    tiny = directory / "tiny.qcow2"
    subprocess.run([TINY_IMAGE, tiny], check=True, stdin=subprocess.DEVNULL)
    with counting_cloud("g", tiny, logs=directory / "log") as counting:
        if stories:
            etcd_members_fail(counting, "soak", ETCD_ROUNDS, say)
        yield lambda seed: play_with_guests(counting, seed, say)


if __name__ == "__main__":
    sys.exit(main())
