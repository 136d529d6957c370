"""The last line that every benchmark prints: one JSON object, the same for all (`script/bench`, doc/benchmarks.md)."""

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn


def finish(
    bench: str,
    ours: Sequence[float],
    unit: str,
    ok: bool,
    *,
    aim: float,
    theirs: Sequence[float] = (),
    detail: Mapping[str, object] | None = None,
) -> NoReturn:
    """Print medians of what was measured, and exit: 0 where the aim holds. `theirs`: the same of the other side, if any."""
    line: dict[str, object] = {"bench": bench}
    if theirs:
        line["ratio"] = rounded(statistics.median(ours) / statistics.median(theirs))
    line["ours"] = rounded(statistics.median(ours))
    if theirs:
        line["theirs"] = rounded(statistics.median(theirs))
    line |= {"unit": unit, "n": len(ours), "aim": aim, "ok": ok, "detail": {**(detail or {}), "load_1min": os.getloadavg()[0]}}
    print(json.dumps(line), flush=True)
    sys.exit(0 if ok else 1)


def rounded(value: float) -> float:
    """Three digits are more than a benchmark knows."""
    return float(f"{value:.3g}")
