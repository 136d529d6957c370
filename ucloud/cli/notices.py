"""What the command line says on stderr beside results and progress, at most once each: that the API does not answer yet, and
that it is of another version than this program."""

import re
import sys
import threading

import click

from ucloud import __version__
from ucloud.cli.output import printable

VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})(\.|$)")


class Notices:
    """Called by the threads of the SDK."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def silence(self, why: str) -> None:
        self._say_once(f"waiting for the API: {why}")

    def version(self, version: str) -> None:
        """Nobody is kept from trying: most of it works all the same."""
        theirs, ours = VERSION.match(version), VERSION.match(__version__)
        if not theirs or not ours or _number(theirs) == _number(ours):
            return
        if _number(theirs) > _number(ours):
            advice = f"newer than this program ({__version__}): it can do more than is offered here"
        else:
            advice = f"older than this program ({__version__}): it may refuse what is offered here"
        self._say_once(f"Note: the API is version {version[:20]}, {advice}")

    def _say_once(self, text: str) -> None:
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        if sys.stderr is not None:  # click would write into the middle of a line of progress
            print(printable(text), file=sys.stderr, flush=True)


def _number(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def trying_again(why: str) -> None:
    """For whoever follows something without end."""
    click.echo(f"({printable(why)}; trying again)", err=True)
