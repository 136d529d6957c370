"""A daemon's process: its loops, its workers and its memory live and die together."""

import traceback
from collections.abc import Callable

from sim.world import Killed, Violation, World
from ucloud.base.errors import Conflict, Temporary
from ucloud.loop import Loop

KILLED = 0.0015  # of all calls
WAITS = 0.15
WAITS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 4.0)
WOKEN_TWICE = 0.05
LONG_WAIT, LONG_WAIT_S = 0.001, 16.0  # a process that stood still: older than any lease and any view may be


class Process:
    """One incarnation. `kill` is what the world does to the daemon when it dies by chance: it ends this process and has
    another one started later."""

    def __init__(self, world: World, name: str, kill: Callable[[str], None]) -> None:
        self.world, self.name = world, name
        self.alive = True
        self.threads: list[LoopThread] = []
        self.workers = Workers(self)
        self.connections: list[Callable[[], None]] = []  # what breaks when the process dies
        self._kill = kill
        self.stood_until_s = 0.0

    def run(self, loop: Loop) -> "LoopThread":
        thread = LoopThread(self, loop)
        self.threads.append(thread)
        thread.schedule(self.world.chance.random())
        return thread

    def call(self, what: str) -> None:
        """To be called before and after anything that leaves the process: here time passes, others run, death comes."""
        world = self.world
        if world.faulty and self.alive:
            weather = world.weather
            if world.happens(KILLED * weather.kills):
                self._kill(f"dies in {what}")
            elif world.happens(LONG_WAIT * weather.waits):
                world.say(self.name, f"stands still for {LONG_WAIT_S:g} s in {what}")
                world.pass_time(LONG_WAIT_S)
            elif world.happens(WAITS * weather.waits):
                world.pass_time(world.chance.choice(WAITS_S))
        while self.alive and (stands_s := self.stands_s()) > 0 and world.can_pass_time():
            world.pass_time(stands_s)
        if not self.alive:
            raise Killed

    def stand_still(self, s: float) -> None:
        """As after SIGSTOP: none of its threads does anything; what comes meanwhile is dealt with afterwards."""
        self.stood_until_s = max(self.stood_until_s, self.world.monotonic_s() + s)

    def stands_s(self) -> float:
        """After how many seconds to ask again whether it still stands, 0 if it does not. SIGCONT comes when the world heals."""
        if not self.stood_until_s or not self.world.faulty:
            return 0.0
        return min(max(self.stood_until_s - self.world.monotonic_s(), 0.0), 1.0)

    def end(self) -> None:
        self.alive = False
        for disconnect in self.connections:
            disconnect()


class LoopThread:
    """Steps a loop as `ucloud.loop.run` does, in virtual time."""

    def __init__(self, process: Process, loop: Loop) -> None:
        self.loop = loop
        self._process, self._world = process, process.world
        self._turn = 0  # only the latest time that was set counts
        self.stepping = self._woken = self._deaf = False

    def wake(self) -> None:
        if self.stepping:
            self._woken = True
        elif not self._deaf:
            self.schedule(self._world.chance.random() * (1.0 if self._world.happens(0.1) else 0.02))
            if self._world.happens(WOKEN_TWICE):
                self._world.after(self._world.chance.random(), self.wake)

    def schedule(self, pause_s: float) -> None:
        self._turn += 1
        turn = self._turn
        pause_s = max(pause_s, 0.001)  # less may be nothing, added to a float: then time stands still
        self._world.after(pause_s, lambda: self._step() if turn == self._turn else None)

    def _step(self) -> None:
        if not self._process.alive:
            return
        if (stands_s := self._process.stands_s()) > 0:
            self.schedule(stands_s)
            return
        self.stepping, self._woken, self._deaf = True, False, False
        try:
            pause_s = self.loop.step()
        except Conflict:
            pause_s = 0.05
        except Temporary as error:
            self._world.say(self._process.name, f"{self.loop.name}: {error.message}")
            pause_s, self._deaf = error.retry_s, True
        except Killed:
            return
        except Exception as bug:
            raise found_bug(self._process, self.loop.name, bug) from bug
        finally:
            self.stepping = False
        if self._process.alive:
            self.schedule(0.001 if self._woken and not self._deaf else pause_s)


def found_bug(process: Process, where: str, bug: Exception) -> Violation:
    process.world.say(process.name, "".join(traceback.format_exception(bug)))
    return Violation(f"{process.name}: {where} has a bug: {bug!r}")


class Workers:
    """The host loop's executor: steps of different VMs end in any order, and overlap in the calls that they make."""

    def __init__(self, process: Process) -> None:
        self.done = 0
        self.wake: Callable[[], None] = lambda: None
        self.submitted: Callable[[], None] = lambda: None
        self._process = process
        self._busy: dict[str, None] = {}

    def busy(self) -> frozenset[str]:
        return frozenset(self._busy)

    def submit(self, vm: str, work: Callable[[], None]) -> None:
        if vm in self._busy:
            raise Violation(f"{self._process.name} began a second step of {vm} while one is under way")
        self.submitted()
        self._busy[vm] = None
        chance = self._process.world.chance
        self._process.world.after(chance.choice((0.001, 0.02, 0.2, 1.0, 4.0)) * chance.random(), lambda: self._run(vm, work))

    def _run(self, vm: str, work: Callable[[], None]) -> None:
        if not self._process.alive:
            return
        if (stands_s := self._process.stands_s()) > 0:
            self._process.world.after(stands_s, lambda: self._run(vm, work))
            return
        try:
            work()
        except Killed:
            return
        except Exception as bug:
            raise found_bug(self._process, f"a step of {vm}", bug) from bug
        self.done += 1
        del self._busy[vm]
        self.wake()
