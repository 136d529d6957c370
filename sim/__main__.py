"""`python -m sim`: play many histories, or one with its trace.

python -m sim --seeds 1000              seeds 0 to 999
python -m sim --minutes 30              new seeds for half an hour
python -m sim --off not-newer           with one protection taken away
python -m sim --trace 17                what happens under seed 17
python -m sim --shrink 17               the smallest history that finds the same, and the command that plays it
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable

import msgspec

from sim.campaign import failure, replay_command
from sim.cloud import Knobs
from sim.protections import PROTECTIONS
from sim.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim", description="Simulate small clouds under a hail of faults.")
    parser.add_argument("--seeds", type=int, default=100, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, help="go on for so long, from a first seed that depends on the time of day")
    parser.add_argument("--off", choices=sorted(PROTECTIONS), help="take this protection away")
    parser.add_argument("--knobs", default="{}", help="how large a history is, as JSON; as --shrink prints it")
    parser.add_argument("--trace", type=int, metavar="SEED", help="play this one and print its trace")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="look for a smaller history that finds the same")
    options = parser.parse_args()
    knobs = msgspec.json.decode(options.knobs, type=Knobs)
    if options.trace is not None:
        return trace(options.trace, options.off, knobs)
    if options.shrink is not None:
        seed, smaller = shrink(options.shrink, options.off, knobs)
        print(f"{failure(seed, options.off, knobs=smaller)}\n    {replay_command(seed, options.off, smaller)}")
        return 0
    if options.minutes:
        first = options.first or time.time_ns() // 1_000_000
        return play(itertools.count(first), options.off, knobs, time.monotonic() + options.minutes * 60)
    return play(range(options.first, options.first + options.seeds), options.off, knobs, float("inf"))


def trace(seed: int, off: str | None, knobs: Knobs) -> int:
    lines: list[str] = []
    found = failure(seed, off, lines, knobs)
    print("\n".join(lines))
    print(f"VIOLATION: {found}" if found else "all is well")
    return 1 if found else 0


def play(seeds: Iterable[int], off: str | None, knobs: Knobs, end_s: float) -> int:
    started_s, played, bad = time.monotonic(), 0, 0
    for seed in seeds:
        if time.monotonic() > end_s:
            break
        played += 1
        if found := failure(seed, off, knobs=knobs):
            bad += 1
            print(f"seed {seed}: {found}\n    {replay_command(seed, off, knobs)}", flush=True)
    took_s = time.monotonic() - started_s
    print(f"{played} seeds, {bad} bad, {played / took_s:.1f} seeds/s")
    return 1 if bad else 0


sys.exit(main())
