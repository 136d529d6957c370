"""Logs: lines on stderr, as text for people or as JSON for programs. Every daemon calls `setup` once, at its start.

Whoever started the daemon (systemd, or the supervisor of `ucloud up`) keeps the lines and bounds their number.
"""

import json
import logging

from ucloud.base.clock import timestamp
from ucloud.base.text import visible


class Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{timestamp(record.created)} {record.levelname.lower():7} {record.name}: {visible(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def setup(format: str = "text", level: str = "info", handler: logging.Handler | None = None) -> None:
    """Send all logs of this process to `handler` (stderr), and nowhere else."""
    handler = handler or logging.StreamHandler()
    handler.setFormatter(Json() if format == "json" else Text())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.raiseExceptions = False  # a closed stderr is no reason to fail
    if level != "debug":
        for talkative in ("httpx", "websockets"):  # a line for every request otherwise
            logging.getLogger(talkative).setLevel(logging.WARNING)
