"""From a history in which something was found to a smaller one in which the same is found: fewer hosts, processes, VMs and
kinds of fault, less time. Greedy: each knob is turned down as long as one of a few seeds still finds it."""

import re
from collections.abc import Iterator

import msgspec

from sim.campaign import failure
from sim.cloud import Knobs

SEEDS = 6  # turning a knob gives every seed another history
CALM = (
    *("kills", "waits", "breakage", "losses", "lags", "guests", "upgrades", "power", "cuts", "pauses"),
    *("compactions", "elections", "outages", "fullness", "slowness", "clocks", "hands", "cables", "isolations", "freezes"),
)


def shrink(seed: int, off: str | None, knobs: Knobs) -> tuple[int, Knobs]:
    """The smallest that was found, and its seed. Gives back what it was given when nothing was found under that."""
    found = failure(seed, off, knobs=knobs)
    turned = found is not None
    while turned:
        turned = False
        for smaller in turns(knobs):
            again = next((s for s in candidates(seed) if alike(failure(s, off, knobs=smaller), found)), None)
            if again is not None:
                seed, knobs, turned = again, smaller, True
                break
    return seed, knobs


def candidates(seed: int) -> Iterator[int]:
    yield seed
    yield from range(SEEDS)


def turns(knobs: Knobs) -> Iterator[Knobs]:
    for kind in CALM:
        if kind not in knobs.calm:
            yield msgspec.structs.replace(knobs, calm=(*knobs.calm, kind))
    for name, least in (("faults_s", 5.0), ("max_vms", 1), ("hosts", 1), ("controls", 1), ("apis", 1)):
        now = getattr(knobs, name)
        smaller = now / 2 if name == "faults_s" else now - 1
        if smaller >= least:
            yield msgspec.structs.replace(knobs, **{name: smaller})


def alike(found: str | None, other: str | None) -> bool:
    """The same kind of violation: the words are the same, whatever VM, host, revision and number they name."""
    return found is not None and other is not None and words(found) == words(other)


def words(text: str) -> str:
    first = text.split(";")[0]
    return re.sub(r"\b(vm|image|req)-\w+|\b(h\d+|control-\w+|api-\w+)(\.\d+)?|\d+|web-\d+|rack=\w+", "…", first)
