"""Playing seeds: used by the command line and by the tests."""

import logging

import msgspec

from sim.cloud import Cloud, Knobs
from sim.protections import PROTECTIONS, Protections
from sim.world import Violation


def failure(seed: int, off: str | None = None, lines: list[str] | None = None, knobs: Knobs | None = None) -> str | None:
    """What was found under this seed, or None. `lines` is filled with the trace."""
    cloud = Cloud(seed, PROTECTIONS[off] if off else Protections(), lines is not None, knobs)
    handler = _TraceHandler(cloud)
    logger = logging.getLogger("ucloud")
    logger.propagate = False
    if lines is None:
        logger.setLevel(logging.CRITICAL)
    else:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        cloud.play()
    except Violation as violation:
        return str(violation)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        if lines is not None:
            lines += cloud.world.lines
    return None


def replay_command(seed: int, off: str | None = None, knobs: Knobs | None = None) -> str:
    text = "" if knobs in (None, Knobs()) else f" --knobs '{msgspec.json.encode(knobs).decode()}'"
    return f"python -m sim --trace {seed}" + (f" --off {off}" if off else "") + text


class _TraceHandler(logging.Handler):
    """What production code logs becomes part of the trace."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(logging.WARNING)
        self._world = cloud.world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.say("log", record.getMessage())
