"""The stage on which stories play (sim.scenario): virtual time without chance, and the log of what is said and seen.

What the production loops log is the story; what `vm show` would say of each VM is told whenever it changes.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sim.world import START_S, World
from ucloud.api import vmshow
from ucloud.api.records import StoreSource
from ucloud.base.clock import parse_timestamp
from ucloud.model import sense
from ucloud.model.record import Fact, decode
from ucloud.model.vm import Vm
from ucloud.store.memory import MemoryStore

ID = re.compile(r"\b(vm|host|image|network)-[0-9a-hjkmnp-tv-z]{26}\b")
SINCE = re.compile(r" since \S+Z")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

NOW_S = 0.1  # what began this long ago began now
QUIET_S = 5.0


class Unmoved(random.Random):
    """Chance that never surprises."""

    def random(self) -> float:
        return 0.5

    def choice(self, options: Any) -> Any:
        return options[0]


class Stage(World):
    """Virtual time, who speaks, and the log. Ids are told by name, times as seconds since the story began."""

    def __init__(self) -> None:
        super().__init__(0)
        self.faulty = False
        self.chance = Unmoved()
        self.store = MemoryStore(self)
        self.names: dict[str, str] = {}  # by id
        self.log: list[str] = []
        self._begin_s = float("inf")  # until then nothing is told
        self._speaker = "world"
        self._heard_s: dict[tuple[str, str], float] = {}  # who complained of what, and when last
        self._states: dict[str, tuple[str, str]] = {}  # key of a VM → its state and its reason, as last told
        self._looks = False
        self.store.watch({"": 0}, self._look_soon)

    def begin(self) -> None:
        """What came before is not part of the story."""
        self._begin_s = self.monotonic_s()

    @contextmanager
    def speaking(self, who: str) -> Iterator[None]:
        before, self._speaker = self._speaker, who
        try:
            yield
        finally:
            self._speaker = before

    def tell(self, text: str, who: str = "") -> None:
        if self.monotonic_s() >= self._begin_s:
            self.log.append(f"{self.monotonic_s() - self._begin_s:10.3f}  {who or self._speaker:<10} {self.translate(text)}")

    def note(self, who: str, text: str) -> None:
        """Without a time."""
        self.log.append(f"    {who:<10} {text}")

    def say(self, who: str, what: str) -> None:
        """What makes a loop wait, as sim.process tells it: once, and again only after it was not heard for a while."""
        complaint = who.partition(".")[0], what
        if self.monotonic_s() - self._heard_s.get(complaint, float("-inf")) > QUIET_S:
            self.tell(what, complaint[0])
        self._heard_s[complaint] = self.monotonic_s()

    def chapter(self, title: str) -> None:
        self.log += ["", title]

    def translate(self, text: str) -> str:
        text = ID.sub(lambda id: self.names.get(id[0], id[0]), text)
        return TIMESTAMP.sub(lambda time: f"{parse_timestamp(time[0]) - START_S - self._begin_s:.3f} s", text)

    def id_of(self, name: str) -> str:
        """Of the newest that is called so."""
        return next(id for id, other in reversed(self.names.items()) if other == name)

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self.after(0, self._look)

    def _look(self) -> None:
        """Tell of each VM whose state is another one now what `vm show` says."""
        self._looks = False
        keys = [item.key for item in self.store.list(Vm.prefix).items]
        for key in [key for key in self._states if key not in keys]:
            del self._states[key]
            self.tell("gone", f"* {self.translate(key.removeprefix(Vm.prefix))}")
        for key in keys:
            self._tell_state(key, *self.state(key))

    def _tell_state(self, key: str, state: str, reason: str) -> None:
        told, told_reason = self._states.get(key, ("", ""))
        self._states[key] = state, reason
        is_known = reason in ("", told_reason) or any(self.translate(reason) in line for line in [state, *self.log[-8:]])
        if SINCE.sub("", told) != SINCE.sub("", state) or not is_known:
            text = state if is_known else f"{state} ({reason})"
            self.tell(text, f"* {self.translate(key.removeprefix(Vm.prefix))}")

    def state(self, key: str) -> tuple[str, str]:
        """What `vm show` says: phase, host, what it waits for and its error; and the reason."""
        item = self.store.get(key)
        assert item
        try:
            record, unknown = decode(Vm, item.value)
            sense.check(key, record)
        except msgspec.DecodeError as error:
            return f"cannot be shown: {error}", ""
        shown = vmshow.show(Fact(key, record, item.mod_revision, unknown), StoreSource(self.store))
        text = str(shown.phase) + (f" on {shown.host}" if shown.host else "")
        if waiting := shown.waiting_for:
            who, since = waiting.who, waiting.since
            is_long = since and abs(parse_timestamp(since) - self.now_s()) > NOW_S
            text += f"; waits for {waiting.what} ({who}{f' since {since}' if is_long else ''})"
        if shown.error:
            text += f"; last error: {shown.error}"
        return text, shown.reason
