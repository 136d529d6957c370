"""The disks of guests as their storage sees them: who has which open, and whose writes arrive. Used by `sim.drivers`, cut from
hosts by `sim.faults`, told by the host manager to cut hosts off.

What failover promises is checked here: no write of an older epoch arrives after one of a later epoch. In a pool with the fence
`same-kernel`, or of one host, locks and writes end with the process that has them. The others are servers behind a network:
writes travel, those of killed guests too, and a lock that a host cannot give back stays until that is cut off, or back.
"""

from functools import partial

from sim.world import Violation, World
from ucloud.base.errors import NotYet, Temporary
from ucloud.model.image import Pool

WRITES_S = 1.5  # between two writes of a guest, on average
TRAVELS_S = (0.0, 0.0, 0.05, 1.0, 4.0)


class Open:
    """What one guest has of its disk. lives: there is a process that has it. locks: nobody else gets it. is_valid: the storage
    takes its writes."""

    def __init__(self, host: str, vm: str, epoch: int, pool: Pool) -> None:
        self.host, self.vm, self.epoch, self.pool = host, vm, epoch, pool
        self.disk = vm if pool.shared else f"{host}/{vm}"
        self.is_remote = pool.shared and pool.fence != "same-kernel"
        self.lives = self.locks = self.is_valid = True
        self.travelling = 0  # writes that have left, and have not arrived


class Storage:
    """`pools`: by name. `cut`: hosts that reach no pool that is shared. `frozen`: hosts that stand still as a whole."""

    def __init__(self, world: World, pools: dict[str, Pool]) -> None:
        self.pools = pools
        self.cut: set[str] = set()
        self.frozen: set[str] = set()
        self._world = world
        self._opens: list[Open] = []
        self._written: dict[str, int] = {}  # disk → epoch of the newest write

    def open(self, host: str, vm: str, epoch: int, pool: str) -> None:
        """Raises NotYet while another guest has it, Temporary where the storage is not reached."""
        new = Open(host, vm, epoch, self.pools[pool])
        self.reach(host, pool)
        for old in self._opens:
            if old.disk == new.disk and old.is_valid and old.locks and (old.lives or old.host != host):
                raise NotYet(f"the disk of {vm} is still locked by {old.host}")
        self.settle(host, vm)
        self._opens.append(new)
        self._write_later(new)

    def reach(self, host: str, pool: str) -> None:
        if host in self.cut and self.pools[pool].shared:
            raise Temporary(f"the pool {pool} does not answer")

    def end(self, host: str, vm: str, by_power_loss: bool = False) -> None:
        """The process of its guest is gone. What it wrote may yet be on its way, and its host unable to give the lock back."""
        for old in [old for old in self._of(host, vm) if old.lives]:
            old.lives, old.locks = False, old.pool.fence == "command" and (by_power_loss or host in self.cut)
            if by_power_loss and host in self.cut:
                old.travelling = 0
            if not old.locks and not old.travelling:
                self._opens.remove(old)

    def settle(self, host: str, vm: str) -> None:
        """Until what killed guests of this VM wrote has arrived, or never will. Raises Temporary where that takes longer."""
        for old in [old for old in self._of(host, vm) if not old.lives]:
            if host in self.cut and old.is_valid:
                raise Temporary(f"what the guest of {vm} wrote is still on its way")
            self._arrive(old, old.travelling)
            self._opens.remove(old)

    def cut_off(self, host: str, pool: str) -> None:
        """What the server of a pool does when told so: whatever that host has open there it loses, and what travels."""
        self._world.say("storage", f"{pool} cuts {host} off")
        for old in [old for old in self._opens if old.host == host and old.pool.name == pool]:
            old.is_valid = False

    def boot(self, host: str) -> None:
        """The servers learn that nothing of what it had open before is there any more."""
        for old in [old for old in self._opens if old.host == host]:
            self._arrive(old, old.travelling)
            self._opens.remove(old)

    def is_open(self, host: str, vm: str) -> bool:
        """Whether a guest of this VM that lives there can write, or could when its host goes on."""
        return any(old.lives and old.is_valid for old in self._of(host, vm))

    def may_write(self, host: str, vm: str) -> bool:
        """Whether anything of this VM can still come from that host without asking for a lock first."""
        return any(old.is_valid and (old.lives or old.travelling) for old in self._of(host, vm))

    def _of(self, host: str, vm: str) -> list[Open]:
        return [old for old in self._opens if (old.host, old.vm) == (host, vm)]

    def _write_later(self, guest: Open) -> None:
        self._world.after(self._world.chance.expovariate(1 / WRITES_S), partial(self._write, guest))

    def _write(self, guest: Open) -> None:
        if not guest.lives or not self._world.faulty:
            return
        if guest.host not in self.frozen and not (guest.host in self.cut and not guest.is_remote and guest.pool.shared):
            self._send(guest)
        self._write_later(guest)

    def _send(self, guest: Open) -> None:
        guest.travelling += 1
        if guest.is_remote:
            self._world.after(self._world.chance.choice(TRAVELS_S), partial(self._travel, guest))
        else:
            self._arrive(guest, 1)

    def _travel(self, guest: Open) -> None:
        """What comes to a cable that is cut waits there."""
        if guest.host in self.cut and self._world.faulty:
            self._world.after(1.0, partial(self._travel, guest))
        elif guest.travelling:
            self._arrive(guest, 1)
            if not (guest.lives or guest.locks or guest.travelling) and guest in self._opens:
                self._opens.remove(guest)

    def _arrive(self, guest: Open, writes: int) -> None:
        guest.travelling -= writes
        if not guest.is_valid or not writes:
            return
        newest = self._written.get(guest.disk, 0)
        if guest.epoch < newest:
            raise Violation(f"{guest.vm}: {guest.host} writes with epoch {guest.epoch} after epoch {newest} has written")
        self._written[guest.disk] = guest.epoch
