"""Rounds without end: `python -m tests.integration.soak SECONDS [--seed N] [--lab | --stories]`. For `script/soak`."""

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.integration.lab_cloud import breakable_lab
from tests.integration.plain import breakable_plain
from tests.integration.rounds import Rounds
from tests.integration.stories import STORIES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.soak")
    parser.add_argument("seconds", type=float, help="for about how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first round")
    parser.add_argument("--lab", action="store_true", help="on a cloud by `ucloud up`, whose hosts lose power and cables too")
    parser.add_argument("--stories", action="store_true", help="first those that take minutes")
    options = parser.parse_args()
    start_s, seed = time.monotonic(), options.seed
    directory = Path(tempfile.mkdtemp(prefix="ucloud-soak-"))

    def say(text: str) -> None:
        print(f"{time.monotonic() - start_s:7.1f} s: {text}", flush=True)

    try:
        if options.stories:
            with breakable_plain(directory / "stories") as plain:
                told = Rounds(plain, say)  # one for all: names of VMs that an earlier story left are taken
                for story in STORIES:
                    say(story.__name__.replace("_", " "))
                    story(told)
        with breakable_lab("s", directory / "log") if options.lab else breakable_plain(directory / "rounds") as breakable:
            rounds: Rounds[Any] = Rounds(breakable, say)
            while time.monotonic() < start_s + options.seconds:
                rounds.play(seed)
                seed += 1
    except Exception:  # a daemon that does not end, say, is as good a finding as what the checker finds
        print(f"FOUND in round {seed}, logs are in {directory}:\n{traceback.format_exc()}", flush=True)
        return 1
    shutil.rmtree(directory)
    print(f"rounds {options.seed} to {seed - 1}: nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
