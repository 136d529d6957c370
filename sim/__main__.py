"""`python -m sim`: play many histories, or one with its trace.

python -m sim --seeds 1000              seeds 0 to 999
python -m sim --first 5000 --seeds 100  seeds 5000 to 5099
python -m sim --off not-newer           with one protection taken away
python -m sim --trace 17                what happens under seed 17
"""

import argparse
import sys
import time

from sim.campaign import failure, replay_command
from sim.protections import PROTECTIONS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim", description="Simulate small clouds under a hail of faults.")
    parser.add_argument("--seeds", type=int, default=100, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--off", choices=sorted(PROTECTIONS), help="take this protection away")
    parser.add_argument("--trace", type=int, metavar="SEED", help="play this one and print its trace")
    options = parser.parse_args()
    if options.trace is not None:
        lines: list[str] = []
        found = failure(options.trace, options.off, lines)
        print("\n".join(lines))
        print(f"VIOLATION: {found}" if found else "all is well")
        return 1 if found else 0
    started, bad = time.monotonic(), 0
    for seed in range(options.first, options.first + options.seeds):
        if found := failure(seed, options.off):
            bad += 1
            print(f"seed {seed}: {found}\n    {replay_command(seed, options.off)}", flush=True)
    took_s = time.monotonic() - started
    print(f"{options.seeds} seeds, {bad} bad, {options.seeds / took_s:.1f} seeds/s")
    return 1 if bad else 0


sys.exit(main())
